//! A run's metrics, thinned while they are read so that a run of any length fits in memory and on a page.

mod bucket;
mod validations;

use std::collections::BTreeMap;
use std::path::Path;

pub(crate) use bucket::{Bucket, Counts, MAX_CLASSES, Quantity};
pub(crate) use validations::{ValidationRow, Validations};

use crate::metrics::{Line, StepMetrics};
use crate::metrics_file::Lines;
use crate::{ReportError, Result};

/// Buckets that steps are gathered in, at most: about three for each pixel of a chart.
const MAX_BUCKETS: usize = 1500;

/// What a metrics file says.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Runs of `2^shift` steps each, by their number.
    buckets: BTreeMap<u64, Bucket>,
    shift: u32,
    /// What validations found.
    pub(crate) validations: Validations,
    /// Steps read.
    pub(crate) steps: u64,
    /// Steps that were skipped.
    pub(crate) skipped: u64,
    /// Steps whose loss leapt.
    pub(crate) spikes: u64,
    /// The last step read.
    pub(crate) last: Option<StepMetrics>,
    /// Lines that are not metrics.
    pub(crate) unreadable: u64,
}

impl History {
    /// Reads a metrics file, one line in memory at a time.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut history = Self::default();
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next_line().map_err(ReportError::io(path))? {
            match serde_json::from_slice(line) {
                Ok(Line::Step(step)) => history.add_step(step),
                Ok(Line::Validation(validation)) => {
                    let tokens = history.last.as_ref().map_or(0, |step| step.tokens);
                    history.validations.add(validation, tokens);
                }
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) => history.unreadable += 1,
            }
        }
        Ok(history)
    }

    fn add_step(&mut self, step: StepMetrics) {
        self.steps += 1;
        self.skipped += u64::from(step.skipped);
        self.spikes += u64::from(step.spike);
        self.buckets
            .entry(step.step >> self.shift)
            .or_default()
            .add(&step);
        while self.buckets.len() > MAX_BUCKETS {
            self.shift += 1;
            for (number, bucket) in std::mem::take(&mut self.buckets) {
                self.buckets.entry(number >> 1).or_default().merge(bucket);
            }
        }
        self.last = Some(step);
    }

    /// The buckets in the order of their steps.
    pub(crate) fn buckets(&self) -> impl DoubleEndedIterator<Item = &Bucket> + Clone {
        self.buckets.values()
    }

    /// Steps in a bucket.
    pub(crate) fn bucket_steps(&self) -> u64 {
        1 << self.shift.min(63)
    }

    /// The first and the last step of the file, validations included.
    pub(crate) fn extent(&self) -> Option<(u64, u64)> {
        let steps = self
            .buckets()
            .flat_map(|bucket| [bucket.first, bucket.last]);
        let validations = self.validations.rows().iter().map(|row| row.step);
        let all = steps.chain(validations);
        Some((all.clone().min()?, all.max()?))
    }

    /// Tokens and seconds at a step that was trained, between the buckets' ends by proportion.
    pub(crate) fn position(&self, step: f64) -> Option<(f64, f64)> {
        let last = self.buckets().next_back()?.last;
        if step > last as f64 {
            return None;
        }
        let number = (step.max(0.0) as u64) >> self.shift;
        let mut until = self.buckets.range(..=number).rev().map(|(_, b)| b);
        let end = until.next()?;
        let (first, tokens, seconds) = until.next().map_or((0.0, 0.0, 0.0), |before| {
            (before.last as f64, before.tokens as f64, before.seconds)
        });
        let share = ((step - first) / (end.last as f64 - first).max(1.0)).clamp(0.0, 1.0);
        Some((
            tokens + (end.tokens as f64 - tokens) * share,
            seconds + (end.seconds - seconds) * share,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn read(text: &str) -> History {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, text).expect("writable");
        History::read(&path).expect("readable")
    }

    #[test]
    fn long_runs_are_thinned_without_losing_extremes_or_counts() {
        let mut text = String::new();
        for step in 1..=10_000_u64 {
            let loss = if step == 7777 { 99.0 } else { 2.0 };
            let skipped = step == 5000;
            let line = serde_json::json!({
                "step": step, "tokens": step * 10, "seconds": step, "loss": loss, "skipped": skipped, "depths": [0, 1, 2],
            });
            writeln!(text, "{line}").expect("a string");
        }
        let history = read(&text);
        assert!(history.buckets.len() <= MAX_BUCKETS && history.buckets.len() > MAX_BUCKETS / 3);
        assert_eq!((history.steps, history.skipped), (10_000, 1));
        assert_eq!(history.extent(), Some((1, 10_000)));
        let losses: Vec<_> = history
            .buckets()
            .map(|bucket| bucket.get(Quantity::Loss))
            .collect();
        let highest = losses.iter().map(|s| s.max).fold(0.0, f64::max);
        assert_eq!(highest, 99.0);
        let counted: u64 = losses.iter().map(|loss| loss.count).sum();
        assert_eq!(counted, 10_000);
        let depths: u64 = history.buckets().map(|b| b.depths.total()).sum();
        assert_eq!(depths, 30_000);
        let (tokens, _) = history.position(5000.0).expect("steps");
        assert!((tokens - 50_000.0).abs() < 1e-6, "{tokens}");
        assert_eq!(history.position(10_001.0), None);
    }

    #[test]
    fn steps_far_apart_and_out_of_order_are_no_trouble() {
        let mut text = String::from("{\"step\":18446744073709551615}\n");
        for step in (0..4000_u64).rev() {
            writeln!(text, "{{\"step\":{}}}", step << 40).expect("a string");
        }
        let history = read(&text);
        assert!(history.buckets.len() <= MAX_BUCKETS);
        assert_eq!(history.steps, 4001);
        assert_eq!(history.extent(), Some((0, u64::MAX)));
    }

    #[test]
    fn damaged_lines_are_counted_and_left_out() {
        let history =
            read("\n{\"step\":1,\"loss\":null}\nnot json\n{\"loss\":2}\n{\"step\":2,\"lo");
        assert_eq!((history.steps, history.unreadable), (1, 3));
        assert_eq!(
            history
                .buckets()
                .next()
                .map(|b| b.get(Quantity::Loss).mean()),
            Some(None)
        );
    }

    #[test]
    fn a_validation_without_tokens_takes_those_of_the_step_before() {
        let history = read(
            "{\"step\":5,\"tokens\":320}\n{\"step\":5,\"seconds\":1.0,\"validation\":{\"bits_per_byte\":1.5}}\n",
        );
        assert_eq!(history.validations.rows()[0].tokens, 320);
    }
}
