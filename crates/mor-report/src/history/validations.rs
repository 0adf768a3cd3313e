//! A run's validations: figures of up to a thousand, answers of the newest.

use std::collections::VecDeque;

use super::Counts;
use crate::metrics::{Sample, Summary, ValidationMetrics};

/// Validations whose figures are kept; beyond that, every other one is dropped.
const MAX_ROWS: usize = 1000;
/// Validations whose answers are kept: the newest.
const MAX_ANSWERED: usize = 30;
/// Answers kept of one validation.
const MAX_SAMPLES: usize = 24;
/// Characters kept of a prompt or an answer.
const MAX_CHARS: usize = 4000;

/// What a validation found.
#[derive(Clone, Debug)]
pub(crate) struct ValidationRow {
    pub(crate) step: u64,
    pub(crate) tokens: u64,
    pub(crate) seconds: f64,
    pub(crate) summary: Summary,
    pub(crate) depth: Option<f64>,
    /// Whether no other has fewer bits per byte.
    pub(crate) best: bool,
}

/// The validations of a run.
#[derive(Debug, Default)]
pub(crate) struct Validations {
    rows: Vec<ValidationRow>,
    answers: VecDeque<(u64, Vec<Sample>)>,
    /// Validations read.
    pub(crate) count: u64,
    /// Those that came with answers.
    pub(crate) answered: u64,
}

impl Validations {
    /// Adds the next one; `tokens` is what training had seen, for files that do not say.
    pub(crate) fn add(&mut self, line: ValidationMetrics, tokens: u64) {
        self.count += 1;
        let bits = line.validation.bits_per_byte;
        let previous = self.rows.iter_mut().find(|row| row.best);
        let best = bits.is_finite()
            && previous
                .as_ref()
                .is_none_or(|row| bits < row.summary.bits_per_byte);
        if let (true, Some(previous)) = (best, previous) {
            previous.best = false;
        }
        let mut depths = Counts::default();
        depths.add(&line.depths);
        self.rows.push(ValidationRow {
            step: line.step,
            tokens: if line.tokens == 0 {
                tokens
            } else {
                line.tokens
            },
            seconds: line.seconds,
            summary: line.validation,
            depth: depths.mean(),
            best,
        });
        if self.rows.len() > MAX_ROWS {
            let mut keep = false;
            self.rows.retain(|row| {
                keep = !keep;
                keep || row.best
            });
        }
        if !line.samples.is_empty() {
            self.answered += 1;
            let samples = line.samples.into_iter().take(MAX_SAMPLES).map(shortened);
            self.answers.push_front((line.step, samples.collect()));
            self.answers.truncate(MAX_ANSWERED);
        }
    }

    /// In the order of the file.
    pub(crate) fn rows(&self) -> &[ValidationRow] {
        &self.rows
    }

    /// The best so far, by bits per byte.
    pub(crate) fn best(&self) -> Option<&ValidationRow> {
        self.rows.iter().find(|row| row.best)
    }

    /// Steps and their answers, newest first.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &(u64, Vec<Sample>)> {
        self.answers.iter()
    }
}

fn shortened(mut sample: Sample) -> Sample {
    for text in [&mut sample.prompt, &mut sample.answer] {
        if let Some((end, _)) = text.char_indices().nth(MAX_CHARS) {
            text.truncate(end);
            text.push('…');
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_best_and_the_newest_answers() {
        let mut validations = Validations::default();
        for step in 0..5000 {
            let bits_per_byte = if step == 33 { 0.5 } else { 2.0 };
            validations.add(
                ValidationMetrics {
                    step,
                    validation: Summary {
                        bits_per_byte,
                        ..Summary::default()
                    },
                    samples: vec![Sample {
                        prompt: "é".repeat(MAX_CHARS + 1),
                        answer: step.to_string(),
                    }],
                    ..ValidationMetrics::default()
                },
                0,
            );
        }
        assert!(validations.rows().len() <= MAX_ROWS);
        assert_eq!(validations.best().map(|row| row.step), Some(33));
        assert_eq!((validations.count, validations.answered), (5000, 5000));
        let steps: Vec<_> = validations.answers().map(|(step, _)| *step).collect();
        assert_eq!(steps, (4970..5000).rev().collect::<Vec<_>>());
        let (_, samples) = validations.answers().next().expect("answers");
        assert_eq!(samples[0].prompt.chars().count(), MAX_CHARS + 1);
        assert!(samples[0].prompt.ends_with('…'));
    }

    #[test]
    fn a_validation_that_is_not_a_number_is_never_the_best() {
        let mut validations = Validations::default();
        for bits_per_byte in [f64::NAN, 1.5, 1.5, f64::NAN] {
            let validation = Summary {
                bits_per_byte,
                ..Summary::default()
            };
            validations.add(
                ValidationMetrics {
                    validation,
                    ..ValidationMetrics::default()
                },
                7,
            );
        }
        let best: Vec<_> = validations.rows().iter().map(|row| row.best).collect();
        assert_eq!(best, [false, true, false, false]);
        assert_eq!(validations.rows()[0].tokens, 7);
    }
}
