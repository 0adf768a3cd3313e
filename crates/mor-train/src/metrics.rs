//! `metrics.jsonl`: one line a step, one line a validation.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::evaluate::Summary;
use crate::{Result, TrainError};

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepMetrics {
    /// The step's number, counted from 1.
    pub step: u64,
    /// Targets learned from so far.
    pub tokens: u64,
    /// Seconds of training so far, over all sessions.
    pub seconds: f64,
    /// Finished share of the budget, after the step.
    pub progress: f64,
    /// Mean loss of the step's targets, in nats.
    pub loss: f64,
    /// Bits per UTF-8 byte of the step's conversations.
    pub bits_per_byte: f64,
    /// Learning rate that the step used.
    pub learning_rate: f64,
    /// Global norm of the gradient, before clipping.
    pub gradient_norm: f64,
    /// Targets per second of the step.
    pub tokens_per_second: f64,
    /// Steps per layer, on average over layers and sequences.
    pub depth: f64,
    /// Whether the step was skipped because loss or gradient was not a finite number.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// What a validation found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ValidationMetrics {
    /// The step after which it was measured.
    pub step: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The figures.
    pub validation: Summary,
}

/// The metrics file of a run.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

/// The part of any line that says where it belongs.
#[derive(Deserialize)]
struct Line {
    step: u64,
}

impl MetricsFile {
    /// Opens the file to continue after `step`: lines of later steps, and a last line cut short
    /// by a crash, are dropped, so that it ends up as if the run had never stopped.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let io = || TrainError::io(path);
        let mut kept = Vec::new();
        if path.exists() {
            let mut reader = BufReader::new(File::open(path).map_err(io())?);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).map_err(io())? > 0 {
                let parsed = serde_json::from_slice::<Line>(&line);
                if line.ends_with(b"\n") && parsed.is_ok_and(|line| line.step <= step) {
                    kept.extend_from_slice(&line);
                }
                line.clear();
            }
        }
        mor_config::write_atomic(path, &kept)?;
        let file = OpenOptions::new().append(true).open(path).map_err(io())?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|error| TrainError::Io {
            path: self.path.clone(),
            source: error.into(),
        })?;
        text.push(b'\n');
        self.file
            .write_all(&text)
            .map_err(TrainError::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continues_after_the_checkpoint() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st").expect("writable");
        let mut metrics = MetricsFile::open(&path, 2).expect("readable");
        metrics
            .write(&serde_json::json!({"step": 3, "loss": 1.5}))
            .expect("writable");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(
            text,
            "{\"step\":1}\n{\"step\":2}\n{\"loss\":1.5,\"step\":3}\n"
        );
    }
}
