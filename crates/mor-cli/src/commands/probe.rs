//! `probe.json`: what a model's logits should be, for devices that are not to be trusted unseen.

use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "gpu")]
use anyhow::Context as _;
use anyhow::Result;
use mor_config::ModelConfig;
use mor_engine::{
    Context, DecodeOptions, Decoder, LoadOptions, Model, PROBE_FILE, Probe, WeightPrecision,
};
use mor_text::{Message, Role, Tokenizer};
use pollster::block_on;

/// What a model with a tokenizer is asked.
const QUESTION: &str = "How do I list the contents of a tar file?";
/// Tokens of the prompt of a model without one.
const MADE_UP: u32 = 16;

/// Runs the model of a folder on the CPU, in f32 whatever its weights are stored as, and writes its probe beside them.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let probe = measure(folder)?;
    mor_files::write(&folder.join(PROBE_FILE), probe.to_json().as_bytes())?;
    Ok(())
}

/// The probe of a model folder; one that is measured now where it has none.
#[cfg(feature = "gpu")]
pub(crate) fn of(folder: &Path) -> Result<Probe> {
    let path = folder.join(PROBE_FILE);
    match std::fs::read(&path) {
        Ok(text) => Probe::from_json(&text).with_context(|| folder.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            note!(
                "{} has no {PROBE_FILE}: the CPU runs the model once to check the GPU with; `mor export` writes one",
                folder.display()
            );
            measure(folder)
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Compares what Burn makes of the model of a folder on a GPU with its probe.
///
/// # Errors
/// [`mor_engine::EngineError::WrongDevice`] when they differ; else as [`of`], or when the model cannot be run.
#[cfg(all(feature = "gpu", feature = "train"))]
pub(crate) fn trust_burn(folder: &Path, device: &mor_train::ChosenDevice) -> Result<()> {
    use burn::tensor::{Int, Tensor, TensorData};

    let probe = of(folder)?;
    let model = mor_model::Model::load(folder, &device.device)?;
    let ids: Vec<i64> = probe.ids().iter().map(|id| i64::from(*id)).collect();
    let cols = ids.len();
    let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [1, cols]), &device.device);
    let output = model.forward(ids, &mor_model::ForwardOptions::default())?;
    let logits = model
        .logits(output.hidden)
        .into_data()
        .try_into_vec::<f32>();
    let logits = logits.map_err(|error| anyhow::anyhow!("{}: {error:?}", folder.display()))?;
    let last = &logits[logits.len() / cols * (cols - 1)..];
    Ok(probe.check_logits(last)?.trust(&device.description)?)
}

fn measure(folder: &Path) -> Result<Probe> {
    let options = LoadOptions {
        precision: WeightPrecision::F32,
        ..LoadOptions::default()
    };
    let model = Arc::new(Model::load_with(folder, options)?);
    let ids = prompt(folder, model.config());
    let mut context = Context::from(Decoder::new(model, DecodeOptions::default())?);
    Ok(block_on(Probe::measure(&mut context, &ids))?)
}

/// A question, or made-up tokens where there is no tokenizer that fits the model.
fn prompt(folder: &Path, config: &ModelConfig) -> Vec<u32> {
    let vocab_size = config.vocab_size as u32;
    let tokenizer = Tokenizer::from_dir(folder).ok();
    let tokenizer = tokenizer.filter(|tokenizer| tokenizer.fits(config.vocab_size));
    let question = [Message::new(Role::User, QUESTION)];
    let ids = tokenizer.and_then(|tokenizer| tokenizer.encode_chat(&question, true).ok());
    let mut ids = ids.unwrap_or_else(|| {
        let ids = (1..=MADE_UP).map(|i| i.wrapping_mul(7919) % vocab_size);
        ids.filter(|id| *id != config.pad_token_id).collect()
    });
    ids.truncate(config.max_position_embeddings);
    if ids.is_empty() {
        ids.push(config.pad_token_id);
    }
    ids
}
