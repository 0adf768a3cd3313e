//! Answers to a few prompts, to see what the figures mean.

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use mor_model::{ForwardOptions, Model};
use mor_report::metrics::Sample;
use mor_text::{Message, Role};

use super::Trainer;
use crate::Result;
use crate::evaluate::device_of;

/// Prompts taken from the validation data where the recipe names none.
const PROMPTS: usize = 2;
/// Longest answer in tokens. Each costs a pass over all that precedes it.
const ANSWER: usize = 40;

impl Trainer {
    /// Answers to the recipe's prompts, or to the first questions of the validation data.
    pub(super) fn samples(&self) -> Result<Vec<Sample>> {
        let model = self.model.valid();
        let mut samples = Vec::new();
        for (prompt, ids) in self.prompts()? {
            let answer = self.answer(&model, ids)?;
            samples.push(Sample { prompt, answer });
        }
        Ok(samples)
    }

    /// Prompts with their ids.
    fn prompts(&self) -> Result<Vec<(String, Vec<u32>)>> {
        let given = &self.recipe.train.samples;
        if !given.is_empty() {
            let encode = |prompt: &String| {
                let message = [Message::new(Role::User, prompt.as_str())];
                let ids = if self.tokenizer.has_chat_template() {
                    self.tokenizer.encode_chat(&message, true)?
                } else {
                    self.tokenizer.encode(prompt)?
                };
                Ok((prompt.clone(), ids))
            };
            return given.iter().map(encode).collect();
        }
        let Some(valid) = &self.valid else {
            return Ok(Vec::new());
        };
        let mut prompts = Vec::new();
        for document in 0..valid.documents().min(PROMPTS) {
            let Some(row) = valid.rows_of(document).next() else {
                continue;
            };
            let (mut ids, mut learned) = (Vec::new(), Vec::new());
            valid.read(row, &mut ids);
            valid.read_learned(row, &mut learned);
            // Up to where an answer begins; of running text the beginning.
            let first = learned.iter().position(|learned| *learned).unwrap_or(0);
            let end = if valid.is_text(document) { 16 } else { first };
            ids.truncate(end.clamp(1, ids.len()));
            prompts.push((self.tokenizer.decode(&ids), ids));
        }
        Ok(prompts)
    }

    /// The likeliest continuation, token by token.
    fn answer(&self, model: &Model, mut ids: Vec<u32>) -> Result<String> {
        let context = model.config().max_position_embeddings;
        let ends = self.tokenizer.stop_ids();
        let device = device_of(model);
        let start = ids.len();
        while ids.len() < start + ANSWER && ids.len() < context {
            let input: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
            let input = TensorData::new(input, [1, ids.len()]);
            let input: Tensor<2, Int> = Tensor::from_data(input, &device);
            let output = model.forward(input, &ForwardOptions::default())?;
            let last = output.hidden.narrow(1, ids.len() - 1, 1);
            let logits = model.logits(last).into_data().convert::<f32>();
            let logits = logits.as_slice::<f32>().unwrap_or_default();
            let likeliest = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            let next = likeliest.map_or(0, |(id, _)| id as u32);
            if ends.contains(&next) {
                break;
            }
            ids.push(next);
        }
        Ok(self.tokenizer.decode(&ids[start.min(ids.len())..]))
    }
}
