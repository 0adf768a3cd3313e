//! `state.json`: where a run stands.

use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::recipe::TrainSettings;

/// Version of `state.json`.
const FORMAT: u32 = 2;

/// Where a run stands, and what it was started with. What is random depends on the seed and these numbers alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this file.
    pub format: u32,
    /// Version of the program that wrote it.
    pub program: String,
    /// Optimizer steps taken, skipped ones included.
    pub step: u64,
    /// Targets learned from.
    pub tokens: u64,
    /// Whole passes over the data.
    pub epoch: u64,
    /// Pools of the current pass that are done.
    pub pool: usize,
    /// Batches of the current pool that are done.
    pub batch: usize,
    /// Seconds of training, over all sessions.
    pub seconds: f64,
    /// Steps skipped because loss or gradient was not a finite number.
    pub skipped: u64,
    /// Those since the last step that was not.
    pub skipped_in_a_row: u32,
    /// Factor on the loss in 16-bit training.
    pub loss_scale: f64,
    /// Steps since the factor changed.
    pub loss_scale_steps: u32,
    /// Recent losses.
    pub losses: LossHistory,
    /// Best validation so far.
    pub best: Option<Best>,
    /// The step after which the last validation was.
    pub validated: Option<u64>,
    /// What the figures of validations are of; another file, or another part of it, gives others.
    #[serde(default)]
    pub measured: Option<Measured>,
    /// SHA-256 of the tokenized training data: another file would be another run.
    pub data: String,
    /// The settings of the run.
    pub settings: TrainSettings,
}

/// The best validation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The step after which it was measured.
    pub step: u64,
    /// Its bits per byte.
    pub bits_per_byte: f64,
}

/// The identity of validation data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// SHA-256 of its tokens.
    pub sha256: String,
    /// Documents that are measured, from its beginning on.
    pub documents: usize,
}

impl Measured {
    /// Of a dataset.
    pub fn of(data: &Dataset) -> Self {
        Self {
            sha256: data.fingerprint().to_owned(),
            documents: data.documents(),
        }
    }
}

impl State {
    /// The start of a run.
    pub fn new(settings: TrainSettings, data: String) -> Self {
        Self {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            step: 0,
            tokens: 0,
            epoch: 0,
            pool: 0,
            batch: 0,
            seconds: 0.0,
            skipped: 0,
            skipped_in_a_row: 0,
            loss_scale: settings.loss_scale,
            loss_scale_steps: 0,
            losses: LossHistory::default(),
            best: None,
            validated: None,
            measured: None,
            data,
            settings,
        }
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if version.format != FORMAT {
            return Err(format!(
                "is of format {}; this version reads {FORMAT}: go on with the program that wrote it",
                version.format
            ));
        }
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }
}

/// Mean and variance of recent losses, exponentially weighted, to tell a spike from noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossHistory {
    count: u64,
    mean: f64,
    variance: f64,
}

impl LossHistory {
    /// Steps that the averages look back over.
    const SPAN: f64 = 100.0;
    /// Standard deviations above the mean that make a spike.
    const SPIKE: f64 = 6.0;
    /// Losses to have seen before any can be a spike.
    const LEAST: u64 = 20;

    /// Takes in a loss; true if it is a spike, which then counts for nothing.
    pub fn is_spike(&mut self, loss: f64) -> bool {
        let apart = loss - self.mean;
        if self.count >= Self::LEAST && apart > Self::SPIKE * self.variance.sqrt() {
            // Not for ever: a loss that stays up is the new level.
            self.count -= Self::LEAST / 4;
            return true;
        }
        self.count += 1;
        let weight = (1.0 / self.count as f64).max(1.0 / Self::SPAN);
        self.mean += weight * apart;
        self.variance = (1.0 - weight) * (self.variance + weight * apart * apart);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_spikes_from_noise() {
        let mut history = LossHistory::default();
        let noise = |at: u64| 3.0 + 0.1 * ((at * 7919) % 100) as f64 / 100.0;
        assert!((0..300).all(|at| !history.is_spike(noise(at))));
        let calm = history;
        assert!(history.is_spike(4.0));
        assert!((calm.mean, calm.variance) == (history.mean, history.variance));
        assert!(!history.is_spike(3.1) && !history.is_spike(1.0));
        // A level that stays is accepted in the end.
        let mut history = calm;
        let spikes = (0..400).filter(|_| history.is_spike(5.0)).count();
        assert!((2..200).contains(&spikes), "{spikes}");
    }

    #[test]
    fn nothing_early_is_a_spike() {
        let mut history = LossHistory::default();
        assert!(
            [9.0, 8.0, 20.0, 7.0]
                .iter()
                .all(|loss| !history.is_spike(*loss))
        );
    }
}
