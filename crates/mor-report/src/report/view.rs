//! The page's numbers and tables as text.

use serde::Serialize;

use crate::history::{History, Quantity};
use crate::metrics::Sample;
use crate::number::{compact, duration, grouped, significant};

/// A number at the top of the page.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Tile {
    name: &'static str,
    value: String,
    detail: String,
}

/// A line of the validations' table.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Validation {
    step: String,
    tokens: String,
    time: String,
    loss: String,
    perplexity: String,
    bits_per_byte: String,
    depth: String,
    best: bool,
}

/// The validations' table, newest first.
#[derive(Debug, Serialize)]
pub(super) struct Validations {
    rows: Vec<Validation>,
    /// Whether any row has a depth.
    depths: bool,
    /// What was measured on.
    data: String,
    /// Validations that the table leaves out.
    left_out: u64,
}

/// What the model answered at a validation.
#[derive(Debug, Serialize)]
pub(super) struct Answers<'a> {
    step: String,
    samples: &'a [Sample],
}

/// The run in a few numbers.
pub(super) fn tiles(history: &History) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut tile = |name, value, detail| {
        tiles.push(Tile {
            name,
            value,
            detail,
        });
    };
    if let Some(best) = history.validations.best() {
        tile(
            "Best validation",
            significant(best.summary.bits_per_byte, 4),
            format!("bits per byte, step {}", grouped(best.step)),
        );
    }
    let Some(last) = &history.last else {
        return tiles;
    };
    let budget = if last.progress.is_finite() {
        format!("{:.0} % of the budget", last.progress * 100.0)
    } else {
        String::new()
    };
    tile("Last step", grouped(last.step), budget);
    tile("Tokens", compact(last.tokens as f64), "learned from".into());
    let mean = last.tokens as f64 / last.seconds;
    let speed = if mean.is_finite() {
        format!("{} tokens per second", compact(mean))
    } else {
        String::new()
    };
    tile("Training time", duration(last.seconds), speed);
    if let Some(depth) = last_mean(history, Quantity::Depth) {
        tile("Mean depth", significant(depth, 3), "steps".into());
    }
    if history.skipped + history.spikes > 0 {
        tile(
            "Irregular steps",
            grouped(history.skipped + history.spikes),
            format!(
                "{} skipped, {} spikes",
                grouped(history.skipped),
                grouped(history.spikes)
            ),
        );
    }
    tiles
}

fn last_mean(history: &History, quantity: Quantity) -> Option<f64> {
    history.buckets().next_back()?.get(quantity).mean()
}

/// The validations' table, if there is any.
pub(super) fn validations(history: &History) -> Option<Validations> {
    let rows = history.validations.rows();
    let newest = rows.last()?;
    Some(Validations {
        depths: rows.iter().any(|row| row.depth.is_some()),
        data: format!(
            "{} tokens in {} conversations",
            grouped(newest.summary.tokens),
            grouped(newest.summary.conversations)
        ),
        left_out: history.validations.count - rows.len() as u64,
        rows: rows
            .iter()
            .rev()
            .map(|row| Validation {
                step: grouped(row.step),
                tokens: compact(row.tokens as f64),
                time: duration(row.seconds),
                loss: significant(row.summary.loss, 4),
                perplexity: significant(row.summary.perplexity, 4),
                bits_per_byte: significant(row.summary.bits_per_byte, 4),
                depth: significant(row.depth.unwrap_or(f64::NAN), 3),
                best: row.best,
            })
            .collect(),
    })
}

/// What the model answered, newest first.
pub(super) fn answers(history: &History) -> Vec<Answers<'_>> {
    let answers = history.validations.answers();
    answers
        .map(|(step, samples)| Answers {
            step: grouped(*step),
            samples,
        })
        .collect()
}

/// What a reader should know about the page.
pub(super) fn notes(history: &History) -> Vec<String> {
    let mut notes = Vec::new();
    if history.steps == 0 && history.validations.count == 0 {
        notes.push("The metrics hold no step yet.".into());
    }
    let steps = history.bucket_steps();
    if steps > 1 {
        notes.push(format!(
            "A point of a chart stands for {} steps: lines show their mean, bands their range.",
            grouped(steps)
        ));
    }
    if history.unreadable > 0 {
        notes.push(format!(
            "Lines of the metrics that could not be read and are left out: {}.",
            grouped(history.unreadable)
        ));
    }
    let shown = history.validations.answers().count() as u64;
    if history.validations.answered > shown {
        notes.push(format!(
            "Answers are those of the newest {shown} of {} validations.",
            grouped(history.validations.answered)
        ));
    }
    notes
}
