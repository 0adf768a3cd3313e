//! Weights from a checkpoint, or from a model folder, to a model folder.

use std::borrow::Cow;
use std::path::Path;

use mor_config::{
    CONFIG_FILE, ModelConfig, Precision, WEIGHTS_FILE, Weights, check_tensors, save_tensors_with,
};
use safetensors::Dtype;

use crate::{Checkpoint, ImportError};

/// Writes `config.json` and `model.safetensors` into `folder`, one tensor at a time. `config` is what
/// [`crate::technical`] or [`crate::conversational`] found in `checkpoint`.
///
/// # Errors
/// [`ImportError`] when a tensor cannot be read or does not fit `precision`, or the folder cannot be written.
pub fn save_model(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    folder: &Path,
    precision: Precision,
) -> Result<(), ImportError> {
    let tensors = shapes(config);
    save_tensors_with(&folder.join(WEIGHTS_FILE), &tensors, precision, |index| {
        checkpoint.to_f32(&tensors[index].0).map(Cow::Owned)
    })?;
    let config = config.to_json();
    Ok(mor_files::write(
        &folder.join(CONFIG_FILE),
        config.as_bytes(),
    )?)
}

/// Copies the files of the model folder `model` into `folder`, with the weights in another precision. Subfolders and
/// hidden files are left out, as are tensors that the configuration does not use.
///
/// # Errors
/// [`ImportError`] when `model` is no whole model folder, a value does not fit `precision`, or a file cannot be
/// copied.
pub fn convert(model: &Path, folder: &Path, precision: Precision) -> Result<(), ImportError> {
    let config = ModelConfig::from_dir(model)?;
    let weights = Weights::open(&model.join(WEIGHTS_FILE))?;
    check_tensors(&config, &weights)?;
    let tensors = shapes(&config);
    let target = folder.join(WEIGHTS_FILE);
    if is_stored_as(&weights, &tensors, precision)? {
        // Rounding again what is rounded already would only lose.
        mor_files::copy(&model.join(WEIGHTS_FILE), &target)?;
    } else {
        save_tensors_with::<ImportError>(&target, &tensors, precision, |index| {
            Ok(Cow::Owned(weights.to_f32(&tensors[index].0)?))
        })?;
    }
    let io = |error| ImportError::io(model, error);
    for entry in std::fs::read_dir(model).map_err(io)? {
        let (name, path) = entry
            .map(|entry| (entry.file_name(), entry.path()))
            .map_err(io)?;
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        // Links are followed: hubs keep models as links into a store.
        if name != WEIGHTS_FILE && !is_hidden && path.is_file() {
            mor_files::copy(&path, &folder.join(&name))?;
        }
    }
    Ok(())
}

/// Names and shapes of a configuration's tensors.
fn shapes(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let specs = config.tensors().into_iter();
    specs.map(|spec| (spec.name, spec.shape)).collect()
}

/// Whether all weights have the precision already.
fn is_stored_as(
    weights: &Weights,
    tensors: &[(String, Vec<usize>)],
    precision: Precision,
) -> Result<bool, ImportError> {
    for (name, shape) in tensors {
        let expected = match (precision, shape.len()) {
            (Precision::Q8, 2) => Dtype::I8,
            (Precision::F16, _) => Dtype::F16,
            (Precision::F32 | Precision::Q8, _) => Dtype::F32,
        };
        if weights.dtype(name)? != expected {
            return Ok(false);
        }
    }
    Ok(true)
}
