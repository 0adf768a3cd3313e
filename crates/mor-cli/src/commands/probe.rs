//! `probe.json`: what a model's logits should be, for devices that are not to be trusted unseen.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use mor_config::{ModelConfig, write_atomic};
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
    let options = LoadOptions {
        precision: WeightPrecision::F32,
        ..LoadOptions::default()
    };
    let model = Arc::new(Model::load_with(folder, options)?);
    let ids = prompt(folder, model.config());
    let mut context = Context::from(Decoder::new(model, DecodeOptions::default())?);
    let probe = block_on(Probe::measure(&mut context, &ids))?;
    write_atomic(&folder.join(PROBE_FILE), probe.to_json().as_bytes())?;
    Ok(())
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
