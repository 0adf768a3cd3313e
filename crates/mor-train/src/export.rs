//! From a checkpoint to a model folder in Hugging Face layout.

use std::path::{Path, PathBuf};

use mor_config::{CONFIG_FILE, Precision, WEIGHTS_FILE, save_tensors_with};
use mor_files::folder::existing;
use mor_text::Tokenizer;

use crate::checkpoint::Checkpoint;
use crate::run::RunFolder;
use crate::{Result, TrainError};

/// File name of the sampling defaults.
const GENERATION_FILE: &str = "generation_config.json";

/// Writes the model of a run's best checkpoint (its last, if it was never validated) to `output`.
/// Returns the checkpoint's folder. The run may still be training.
///
/// # Errors
/// [`TrainError::Run`] when `run` holds no checkpoint, [`TrainError::Checkpoint`] when it is
/// damaged, or an I/O error.
pub fn export(run: &Path, output: &Path, precision: Precision) -> Result<PathBuf> {
    let folder = RunFolder::new(run);
    let newest = folder.checkpoints();
    let mut candidates = std::iter::once(folder.best()).chain(newest);
    let Some(dir) = candidates.find_map(|dir| existing(&dir)) else {
        return Err(TrainError::Run {
            path: run.to_owned(),
            problem: "holds no checkpoint; it must be a folder that `mor train` wrote".to_owned(),
        });
    };
    let checkpoint = Checkpoint::open(&dir)?;
    let tokenizer = Tokenizer::from_dir(&dir)?;
    let specs = checkpoint.config.tensors().into_iter();
    let shapes: Vec<_> = specs.map(|spec| (spec.name, spec.shape)).collect();
    save_tensors_with::<TrainError>(&output.join(WEIGHTS_FILE), &shapes, precision, |index| {
        Ok(checkpoint.usable_values(&shapes[index].0)?.into())
    })?;
    tokenizer.save(output)?;
    let generation = generation_config(&tokenizer, checkpoint.config.max_position_embeddings);
    mor_files::write(&output.join(GENERATION_FILE), generation.as_bytes())?;
    let config = checkpoint.config.to_json();
    mor_files::write(&output.join(CONFIG_FILE), config.as_bytes())?;
    Ok(dir)
}

/// Sampling defaults that suit small models: close to greedy.
fn generation_config(tokenizer: &Tokenizer, context: usize) -> String {
    let mut ends: Vec<u32> = tokenizer.eos_id().into_iter().collect();
    ends.extend(tokenizer.token_id("<|endoftext|>"));
    let value = serde_json::json!({
        "bos_token_id": tokenizer.bos_id(),
        "eos_token_id": ends,
        "pad_token_id": tokenizer.pad_id(),
        "do_sample": false,
        "temperature": 0.3,
        "top_p": 0.9,
        "max_length": context,
    });
    format!("{value:#}\n")
}
