//! Runs of a tiny model on the sample data.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use mor_train::{Device, Event, Outcome, Paths, Recipe, RunFolder, Trainer};
use serde_json::Value;

/// Much that could upset a resumed run is switched on: a moving average, random depths, gradient
/// accumulation. Dropout joins in one test only, because its noise comes from a generator that the
/// whole process shares.
pub(crate) const RECIPE: &str = r#"
[model]
preset = "technical-10m"
vocab_size = 512
hidden_size = 48
num_hidden_layers = 2
num_attention_heads = 4
intermediate_size = 96
max_position_embeddings = 96

[train]
steps = 12
batch_tokens = 768
accumulate = 2
lr = 4e-3
validate_every = 4
ema = 0.9

[[train.depth]]
from = 0.0
weights = [0.0, 1.0, 1.0]

[train.optimizer]
kind = "muon"
"#;

/// A conversational model with a router; `POOLING` stands for what that sees.
pub(crate) const CONVERSATIONAL: &str = r#"
[model]
preset = "conversational-198m"
vocab_size = 512
hidden_size = 48
num_hidden_layers = 2
num_attention_heads = 4
intermediate_size = 96
max_position_embeddings = 96
pad_token_id = 0

[model.routing]
pooling = "POOLING"

[train]
steps = 6
batch_tokens = 768
lr = 4e-3
validate_every = 6

[train.optimizer]
kind = "adamw"
"#;

pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}

pub(crate) fn paths(output: &Path) -> Paths {
    Paths {
        data: sample("technical-sample.jsonl"),
        valid: Some(sample("technical-sample-valid.jsonl")),
        tokenizer: Some(sample("tokenizer")),
        init: None,
        output: output.to_owned(),
    }
}

pub(crate) fn recipe(text: &str) -> Recipe {
    Recipe::parse(text, Path::new("recipe.toml"), &[]).expect("valid")
}

pub(crate) fn trainer(text: &str, output: &Path, resume: bool) -> Result<Trainer, String> {
    trainer_on(&Device::flex(), text, output, resume)
}

pub(crate) fn trainer_on(
    device: &Device,
    text: &str,
    output: &Path,
    resume: bool,
) -> Result<Trainer, String> {
    Trainer::new(recipe(text), &paths(output), resume, device).map_err(|error| error.to_string())
}

/// Runs to the end, or until `stop_after` steps are done.
pub(crate) fn run(text: &str, output: &Path, resume: bool, stop_after: Option<u64>) -> Outcome {
    run_on(&Device::flex(), text, output, resume, stop_after)
}

/// As [`run`], on a device.
pub(crate) fn run_on(
    device: &Device,
    text: &str,
    output: &Path,
    resume: bool,
    stop_after: Option<u64>,
) -> Outcome {
    let stop = AtomicBool::new(false);
    let trainer = trainer_on(device, text, output, resume).expect("a run");
    let outcome = trainer.run(&stop, &mut |event| {
        if let Event::Step { metrics, .. } = event
            && Some(metrics.step) == stop_after
        {
            stop.store(true, Ordering::Relaxed);
        }
    });
    outcome.expect("no error")
}

/// The metrics without what a clock decides.
pub(crate) fn metrics(output: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(RunFolder::new(output).metrics()).expect("metrics");
    text.lines()
        .map(|line| {
            let mut value: Value = serde_json::from_str(line).expect("JSON");
            if let Value::Object(map) = &mut value {
                map.remove("seconds");
                map.remove("tokens_per_second");
            }
            value
        })
        .collect()
}

pub(crate) fn weights(output: &Path) -> Vec<u8> {
    let model = RunFolder::new(output).model().join("model.safetensors");
    std::fs::read(model).expect("exported")
}

/// The newest checkpoint; the one being written is not there yet when a validation is reported.
pub(crate) fn newest(output: &Path) -> PathBuf {
    let checkpoints = RunFolder::new(output).checkpoints();
    checkpoints.into_iter().next().expect("a checkpoint")
}
