//! How fast models train, beside a plain matrix product.

use std::time::Instant;

use burn::tensor::{Device, Distribution, FloatDType, Tensor};
use mor_config::{Depth, ModelConfig, Preset};
use mor_model::gpu::{count_launches, memory};
use mor_train::recipe::{AdamWSettings, Matmul, OptimizerSettings};
use mor_train::steps::{MadeUp, StepSettings, Steps};

use crate::agreement::{NO_F16, TrainingGpu};
use crate::budget::NO_TIME;
use crate::isolate::isolated;
use crate::{Context, Outcome, Problem, Status, TrainingSpeed};

/// Layers of the conversational model, which as a whole trains in few machines' memory.
const CONVERSATIONAL_LAYERS: usize = 4;
/// Side of the matrices whose product is measured.
const SIDES: [usize; 3] = [256, 1024, 4096];

/// How much of a model there is time for.
#[derive(Clone, Copy)]
struct Size {
    whole: bool,
    layers: usize,
    vocab: usize,
    batch: usize,
    seq: usize,
}

pub(crate) fn run(context: &mut Context) -> Outcome {
    let gpu = TrainingGpu::open(context)?;
    let kinds = [("f32", Matmul::F32), ("f16", Matmul::F16)];
    let presets = [Preset::Technical10m, Preset::Conversational198m];
    let pieces = (kinds.len() * (presets.len() + 1)) as f64;
    let mut done = 0.0;
    for (precision, matmul) in kinds {
        let half = matmul == Matmul::F16;
        if half && !gpu.chosen.half {
            let reason = NO_F16.to_owned();
            for preset in presets {
                let mut speed = unmeasured(preset, precision);
                (speed.status, speed.reason) = (Status::Skipped, Some(reason.clone()));
                context.found.training.push(speed);
            }
            continue;
        }
        let share = context.budget.left() / (pieces - done);
        done += 1.0;
        let product = isolated(|| product(&gpu.chosen.device, half, share));
        let product = match product {
            Ok(product) => {
                let known = &mut context.found.product_flops_per_second;
                known.insert(precision.to_owned(), product);
                Ok(product)
            }
            Err(problem) => Err(problem),
        };
        for preset in presets {
            let share = context.budget.left() / (pieces - done);
            done += 1.0;
            let mut speed = unmeasured(preset, precision);
            let outcome = match &product {
                Err(Problem::Failed(reason) | Problem::Skipped(reason)) => Err(Problem::Failed(
                    format!("a plain matrix product failed: {reason}"),
                )),
                Ok(_) if done > 2.0 && context.budget.is_over() => {
                    Err(Problem::Skipped(NO_TIME.to_owned()))
                }
                Ok(product) => {
                    isolated(|| measure(&gpu, preset, matmul, share, *product, &mut speed))
                }
            };
            if let Err(problem) = outcome {
                (speed.status, speed.reason) = problem.into_status();
            }
            context.found.training.push(speed);
        }
    }
    Ok(())
}

fn unmeasured(preset: Preset, precision: &str) -> TrainingSpeed {
    TrainingSpeed {
        preset: preset.name().to_owned(),
        precision: precision.to_owned(),
        status: Status::Passed,
        reason: None,
        parameters: 0,
        whole: false,
        batch: 0,
        seq: 0,
        tokens_per_second: 0.0,
        launches_per_step: 0,
        bytes_in_use: 0,
        bytes_reserved: 0,
        flops_per_second: 0.0,
        share_of_product: 0.0,
    }
}

/// Operations a second of the largest product of square matrices that there is time for.
fn product(device: &Device, half: bool, share: f64) -> Outcome<f64> {
    let started = Instant::now();
    let mut reached = 0.0;
    let mut last: Option<f64> = None;
    for side in SIDES {
        // Four times the side is 64 times the work; it runs three times.
        if last
            .is_some_and(|seconds| started.elapsed().as_secs_f64() + 3.0 * 64.0 * seconds > share)
        {
            break;
        }
        let random = || {
            let x = Tensor::<2>::random([side, side], Distribution::Uniform(-1.0, 1.0), device);
            if half { x.cast(FloatDType::F16) } else { x }
        };
        let (a, b) = (random(), random());
        let mut best = f64::INFINITY;
        // The first one compiles.
        for _ in 0..3 {
            let begun = Instant::now();
            let sum = a.clone().matmul(b.clone()).narrow(0, 0, 1).sum();
            let sum = sum.cast(FloatDType::F32).into_scalar::<f32>();
            if !sum.is_finite() {
                return Err(Problem::Failed(
                    "a sum of its values is not finite".to_owned(),
                ));
            }
            best = best.min(begun.elapsed().as_secs_f64());
        }
        reached = f64::max(reached, 2.0 * (side as f64).powi(3) / best);
        last = Some(best);
    }
    Ok(reached)
}

/// The sizes of a preset, the smallest first.
fn sizes(preset: Preset) -> [Size; 3] {
    let config = preset.config();
    let (whole, layers) = match preset {
        Preset::Conversational198m => (false, CONVERSATIONAL_LAYERS),
        _ => (true, config.num_hidden_layers),
    };
    let vocab = config.vocab_size;
    [
        Size {
            whole: false,
            layers: 1,
            vocab: 512,
            batch: 1,
            seq: 32,
        },
        Size {
            whole,
            layers,
            vocab,
            batch: 2,
            seq: 64,
        },
        Size {
            whole,
            layers,
            vocab,
            batch: 16,
            seq: 127,
        },
    ]
}

fn scaled(preset: Preset, size: Size) -> ModelConfig {
    let mut config = preset.config();
    config.num_hidden_layers = size.layers;
    config.vocab_size = size.vocab;
    config.pad_token_id = 0;
    config
}

/// Times steps of the largest size that takes no more than `share` seconds, by what the size below it took.
fn measure(
    gpu: &TrainingGpu,
    preset: Preset,
    matmul: Matmul,
    share: f64,
    product: f64,
    speed: &mut TrainingSpeed,
) -> Outcome {
    let started = Instant::now();
    let mut last: Option<(f64, f64)> = None;
    for size in sizes(preset) {
        let config = scaled(preset, size);
        let parameters = config.parameter_count().total;
        let work = parameters as f64 * (size.batch * size.seq) as f64;
        if let Some((seconds, before)) = last {
            let expected = seconds * work / before;
            if started.elapsed().as_secs_f64() + expected > share {
                break;
            }
        }
        let begun = Instant::now();
        let depth = config.routing.max_steps.min(2);
        let settings = StepSettings {
            batch: size.batch,
            seq: size.seq,
            depth: Depth::Forced(depth),
            matmul,
            optimizer: OptimizerSettings::AdamW(AdamWSettings {
                betas: [0.9, 0.99],
                epsilon: 1e-6,
                weight_decay: 0.01,
            }),
            learning_rate: 1e-4,
            tokens: MadeUp::Noise,
        };
        let mut steps = Steps::new(&config, &gpu.chosen, settings)?;
        let mut seconds = Vec::new();
        let mut launches = 0;
        // The first one compiles, the second counts launches, the others are timed.
        for step in 0..5 {
            let begun = Instant::now();
            let loss;
            if step == 1 {
                let (stepped, count) = count_launches(|| steps.step());
                (steps, loss) = stepped?;
                launches = count;
            } else {
                (steps, loss) = steps.step()?;
            }
            if step > 1 {
                seconds.push(begun.elapsed().as_secs_f64());
            }
            if !loss.is_finite() {
                return Err(Problem::Failed(format!(
                    "the loss of step {step} is {loss}"
                )));
            }
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let memory = memory();
        let depths = vec![vec![depth]; config.routed_depths()];
        let forward = config.forward_flops(size.seq, depths.iter().map(Vec::as_slice), false);
        // A backward pass has two products for each of the forward pass.
        let flops = 3.0 * size.batch as f64 * forward / median;
        speed.parameters = parameters;
        speed.whole = size.whole;
        (speed.batch, speed.seq) = (size.batch, size.seq);
        speed.tokens_per_second = steps.tokens() as f64 / median;
        speed.launches_per_step = launches;
        speed.bytes_in_use = memory.map_or(0, |memory| memory.in_use);
        speed.bytes_reserved = memory.map_or(0, |memory| memory.reserved);
        speed.flops_per_second = flops;
        speed.share_of_product = flops / product.max(1.0);
        last = Some((begun.elapsed().as_secs_f64(), work));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_valid_and_grow() {
        for preset in [Preset::Technical10m, Preset::Conversational198m] {
            let work = sizes(preset).map(|size| {
                let config = scaled(preset, size);
                config.validate(preset.name().as_ref()).expect("valid");
                assert!(size.seq <= config.max_position_embeddings);
                config.parameter_count().total * size.batch * size.seq
            });
            assert!(work.is_sorted(), "{work:?}");
        }
    }
}
