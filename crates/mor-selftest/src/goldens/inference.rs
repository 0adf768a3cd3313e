//! What the engine computes on a GPU, against the originals and its own CPU.

use std::sync::Arc;

use mor_config::{
    Architecture, Depth, ModelConfig, Pooling, Positions, Precision, Preset, Weights,
};
use mor_engine::gpu::{Gpu, GpuDecoder, GpuModel, Variant};
use mor_engine::{
    DecodeOptions, Decoder, LoadOptions, Model, Routing, SamplingOptions, WeightPrecision,
};
use mor_goldens::{
    GoldenSet, conversational, random_weights, routed_configs, stored_as, technical,
};
use pollster::block_on;
use safetensors::Dtype;

use super::compared;
use crate::agreement::{distance, of_engine};
use crate::speed::ON_GPUS;
use crate::{Check, Context, Outcome};

/// How far a logit may be from an original's, as in the tests of this project.
const GOLDEN: f64 = 1e-4;
/// How far a logit may be from the CPU's with the same weights.
const AGREEMENT: f64 = 2e-4;

/// How weights are stored, where they are f32 to begin with.
const STORAGES: [&str; 3] = ["f32", "f16", "q8"];

pub(super) fn run(context: &mut Context, variant: Variant, gpu: &Arc<Gpu>) {
    let name = Some(variant.name());
    for set in GoldenSet::ALL {
        let check = Check::new(format!("golden rows of {}", set.name()), name, Some("f32"));
        compared(context, check, true, |check| rows(set, gpu, check));
        let what = format!("golden generations of {}", set.name());
        let check = Check::new(what, name, Some("f32"));
        compared(context, check, true, |check| texts(set, gpu, check));
    }
    for storage in STORAGES {
        for config in [
            technical(Positions::Learned, Pooling::Prefix),
            conversational(Pooling::Prefix),
        ] {
            let check = Check::new(small(&config), name, Some(storage));
            let options = DecodeOptions {
                depth: Depth::Forced(2),
                ..DecodeOptions::default()
            };
            compared(context, check, true, |check| {
                pair(gpu, &config, storage, options)?.compare(check)
            });
        }
    }
    for preset in ON_GPUS {
        for storage in STORAGES {
            let config = one_layer(preset);
            let what = format!("one layer as wide as {}", preset.name());
            let check = Check::new(what, name, Some(storage));
            let options = DecodeOptions {
                depth: Depth::Forced(1),
                ..DecodeOptions::default()
            };
            compared(context, check, false, |check| {
                pair(gpu, &config, storage, options)?.compare(check)
            });
        }
    }
    for config in routed_configs() {
        for routing in [Routing::Live, Routing::Locked] {
            let pooling = config.routing.pooling;
            let what = format!("{}, routed by {pooling:?}, {routing:?}", small(&config));
            let check = Check::new(what, name, Some("f32"));
            let options = DecodeOptions {
                routing,
                ..DecodeOptions::default()
            };
            compared(context, check, false, |check| {
                pair(gpu, &config, "f32", options)?.compare(check)
            });
        }
    }
}

fn small(config: &ModelConfig) -> String {
    match config.architecture {
        Architecture::Technical => "small technical model".to_owned(),
        Architecture::Conversational => "small conversational model".to_owned(),
        Architecture::Recursive => "small recursive model".to_owned(),
    }
}

/// A model of a preset's widths, and of little more.
fn one_layer(preset: Preset) -> ModelConfig {
    let mut config = preset.config();
    config.num_hidden_layers = 1;
    config.vocab_size = 1024;
    config.max_position_embeddings = 64;
    config.pad_token_id = 0;
    config
}

fn golden_model(set: GoldenSet, gpu: &Arc<Gpu>) -> Outcome<Arc<GpuModel>> {
    let (config, weights) = (set.config()?, set.weights()?);
    let model = GpuModel::from_parts(Arc::clone(gpu), config, &weights, WeightPrecision::AsStored);
    Ok(Arc::new(block_on(model)?))
}

fn steps(decoder: &GpuDecoder) -> Vec<u32> {
    decoder.steps().iter().map(|s| u32::from(*s)).collect()
}

/// Every row of the set's cases, whole and token by token.
fn rows(set: GoldenSet, gpu: &Arc<Gpu>, check: &mut Check) -> Outcome {
    let model = golden_model(set, gpu)?;
    for row in set.rows()? {
        let options = DecodeOptions {
            depth: row.depth,
            ..DecodeOptions::default()
        };
        let mut decoder = block_on(GpuDecoder::new(Arc::clone(&model), options))?;
        for portion in [row.ids.len(), 1] {
            decoder.reset();
            for ids in row.ids.chunks(portion) {
                block_on(decoder.prefill(ids))?;
            }
            let mut worst = 0.0_f64;
            for (position, expected) in row.logits.iter().enumerate() {
                let found = block_on(decoder.logits_at(position))?;
                worst = worst.max(distance(&found, expected));
            }
            let what = format!("{} in portions of {portion}", row.what);
            check.case(&what, worst, GOLDEN);
            let taken = steps(&decoder);
            check.exact(taken == row.steps, || {
                format!("{what} takes {taken:?} steps, not {:?}", row.steps)
            });
        }
    }
    Ok(())
}

/// The set's greedy generations.
fn texts(set: GoldenSet, gpu: &Arc<Gpu>, check: &mut Check) -> Outcome {
    let model = golden_model(set, gpu)?;
    let greedy = SamplingOptions::default();
    for text in set.texts()? {
        let mut ids = text.prompt.clone();
        let options = DecodeOptions::default();
        let mut decoder = block_on(GpuDecoder::new(Arc::clone(&model), options))?;
        let mut first_wrong = None;
        for (at, (expected, depth)) in text.generated.iter().zip(&text.steps).enumerate() {
            let window = &ids[ids.len().saturating_sub(text.window)..];
            block_on(decoder.set_context(window))?;
            let id = block_on(decoder.sample(&greedy, 0.0))?.id;
            if id != *expected || steps(&decoder) != *depth {
                first_wrong.get_or_insert((at, id));
            }
            ids.push(*expected);
        }
        check.exact(first_wrong.is_none(), || {
            let (at, id) = first_wrong.unwrap_or_default();
            format!("{}: token {at} is {id}, or took other steps", text.what)
        });
    }
    Ok(())
}

/// A model on the CPU and on the GPU, with the same numbers as weights.
struct Pair {
    cpu: Decoder,
    gpu: GpuDecoder,
}

/// A small model whose weights are stored in a way on the GPU; the CPU widens the same numbers.
fn pair(
    gpu: &Arc<Gpu>,
    config: &ModelConfig,
    storage: &str,
    options: DecodeOptions,
) -> Outcome<Pair> {
    let (_, exact) = random_weights(config, Dtype::F32)?;
    let weights: Weights = match storage {
        "q8" => stored_as(&exact, Precision::Q8, |_, _| ())?,
        "f16" => stored_as(&exact, Precision::F16, |_, _| ())?,
        _ => exact,
    };
    let load = LoadOptions {
        precision: WeightPrecision::F32,
        ..LoadOptions::default()
    };
    let model = Model::from_parts_with(config.clone(), &weights, load)?;
    let cpu = Decoder::new(Arc::new(model), options)?;
    let stored = match storage {
        // An adapter that cannot unpack it says so.
        "f16" => WeightPrecision::F16,
        _ => WeightPrecision::AsStored,
    };
    let model = GpuModel::from_parts(Arc::clone(gpu), config.clone(), &weights, stored);
    let model = Arc::new(block_on(model).map_err(of_engine)?);
    let gpu = block_on(GpuDecoder::new(model, options))?;
    Ok(Pair { cpu, gpu })
}

impl Pair {
    /// A prompt, tokens one by one, and more at once; after each the logits of all positions, steps, and the next token.
    fn compare(mut self, check: &mut Check) -> Outcome {
        let vocab = self.cpu.model().config().vocab_size;
        let ids: Vec<u32> = (0..20).map(|i| i * 7919 % vocab as u32).collect();
        let greedy = SamplingOptions::default();
        let portions = [("prompt", 0..9), ("token", 9..10), ("token", 10..11)];
        for (what, range) in portions.into_iter().chain([("portion", 11..20)]) {
            self.cpu.prefill(&ids[range.clone()])?;
            block_on(self.gpu.prefill(&ids[range]))?;
            let mut worst = 0.0_f64;
            let mut expected = vec![0.0; vocab];
            for position in 0..self.cpu.ids().len() {
                self.cpu.logits_at(position, &mut expected)?;
                let found = block_on(self.gpu.logits_at(position))?;
                worst = worst.max(distance(&found, &expected));
            }
            check.case(what, worst, AGREEMENT);
            let id = block_on(self.gpu.sample(&greedy, 0.0))?.id;
            let (found, taken) = (self.gpu.steps().to_vec(), self.cpu.steps());
            check.exact(found == taken, || {
                format!("{what}: {found:?} steps were taken, not {taken:?}")
            });
            let logits = self.cpu.logits();
            let most = logits.iter().copied().fold(f32::MIN, f32::max);
            let chosen = logits.get(id as usize).copied().unwrap_or(f32::MIN);
            // Among equals, up to rounding, either may be chosen.
            check.exact(f64::from(most - chosen) <= 2.0 * AGREEMENT, || {
                format!("{what}: the token {id} was chosen, which is not the likeliest")
            });
        }
        Ok(())
    }
}
