//! How fast all presets decode and read prompts, in every storage and variant, beside a plain copy kernel.

use std::sync::Arc;
use std::time::Instant;

use mor_config::{Depth, ModelConfig, Preset};
use mor_engine::bench::BenchOptions;
use mor_engine::gpu::{Gpu, GpuModel, Variant, bench};
use mor_engine::{DecodeOptions, WeightPrecision};
use pollster::block_on;

use crate::agreement::{inference_gpu, of_engine};
use crate::budget::NO_TIME;
use crate::isolate::isolated;
use crate::{Context, Outcome, Problem, Speed, Status};

/// Storages of weights, the default first.
const STORAGES: [(&str, WeightPrecision); 3] = [
    ("f32", WeightPrecision::F32),
    ("f16", WeightPrecision::F16),
    ("q8", WeightPrecision::Q8),
];

/// Bytes that the copy kernel copies: more than caches hold.
const COPIED: u64 = 256 << 20;
/// Bytes that it copies on a software GPU.
const COPIED_IN_SOFTWARE: u64 = 16 << 20;

/// A model of a preset's shape and no more of it than time allows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    /// A narrow one of one layer.
    Least,
    /// Two layers and a small vocabulary.
    Part,
    /// The preset.
    Whole,
}

impl Size {
    const ALL: [Self; 3] = [Self::Least, Self::Part, Self::Whole];

    fn of(self, preset: Preset) -> ModelConfig {
        let mut config = preset.config();
        if self != Self::Whole {
            config.num_hidden_layers = 2;
            config.vocab_size = 4096;
            config.pad_token_id = 0;
        }
        if self == Self::Least {
            config.num_hidden_layers = 1;
            config.vocab_size = 512;
            // Heads stay as wide as they are.
            config.num_attention_heads = 2;
            config.hidden_size = 2 * preset.config().head_dim();
            config.intermediate_size = 4 * config.hidden_size;
        }
        config
    }
}

/// Presets of the families that GPUs run.
pub(crate) const ON_GPUS: [Preset; 3] = [
    Preset::TechnicalCard,
    Preset::Technical10m,
    Preset::Conversational198m,
];

/// A combination to measure.
struct Plan {
    variant: Variant,
    preset: Preset,
    storage: (&'static str, WeightPrecision),
}

pub(crate) fn run(context: &mut Context) -> Outcome {
    let gpu = inference_gpu(context, None)?;
    let suited = gpu.variant();
    let copied = match gpu.description().software {
        true => COPIED_IN_SOFTWARE,
        false => COPIED,
    };
    let seconds = (context.budget.seconds() / 40.0).clamp(0.05, 2.0);
    let copy = block_on(bench::copy_bandwidth(&gpu, copied, seconds))?;
    context.found.copy_bytes_per_second = Some(copy);
    drop(gpu);

    let plans = plans(suited);
    let count = plans.len();
    for (at, plan) in plans.into_iter().enumerate() {
        // What earlier ones left over, later ones may use.
        let share = context.budget.left() / (count - at) as f64;
        let mut speed = Speed {
            preset: plan.preset.name().to_owned(),
            storage: plan.storage.0.to_owned(),
            variant: plan.variant.name().to_owned(),
            status: Status::Passed,
            reason: None,
            parameters: 0,
            whole: false,
            decode_tokens_per_second: 0.0,
            prefill_tokens_per_second: 0.0,
            bytes_per_token: 0.0,
            bytes_per_second: 0.0,
            share_of_copy: 0.0,
            launches_per_token: 0.0,
        };
        let outcome = match at > 0 && context.budget.is_over() {
            true => Err(Problem::Skipped(NO_TIME.to_owned())),
            false => isolated(|| {
                let gpu = inference_gpu(context, Some(plan.variant))?;
                measure(&gpu, &plan, share, copy, &mut speed)
            }),
        };
        if let Err(problem) = outcome {
            (speed.status, speed.reason) = problem.into_status();
        }
        context.found.speeds.push(speed);
    }
    Ok(())
}

/// The kernels that suit the adapter first, and of each the smaller presets: where time is short, these have some.
fn plans(suited: Variant) -> Vec<Plan> {
    let others = Variant::ALL.into_iter().filter(|v| *v != suited);
    let variants = std::iter::once(suited).chain(others);
    let mut presets = ON_GPUS;
    presets.sort_by_key(|preset| preset.config().parameter_count().total);
    let mut plans = Vec::new();
    for variant in variants {
        for preset in presets {
            plans.extend(STORAGES.map(|storage| Plan {
                variant,
                preset,
                storage,
            }));
        }
    }
    plans
}

/// Measures the largest size that takes no more than `share` seconds, by what the sizes below it took.
fn measure(gpu: &Arc<Gpu>, plan: &Plan, share: f64, copy: f64, speed: &mut Speed) -> Outcome {
    let started = Instant::now();
    let mut last: Option<(f64, f64)> = None;
    for size in Size::ALL {
        let config = size.of(plan.preset);
        let parameters = config.parameter_count().total as f64;
        if let Some((seconds, before)) = last {
            // Work grows with the parameters.
            let expected = seconds * parameters / before;
            if started.elapsed().as_secs_f64() + expected > share {
                break;
            }
        }
        let begun = Instant::now();
        let depth = Depth::Forced(config.routing.max_steps.min(2));
        let tokens = config.max_position_embeddings.min(64);
        let options = BenchOptions {
            decode: DecodeOptions {
                depth,
                ..DecodeOptions::default()
            },
            prompt_tokens: tokens / 2,
            new_tokens: match size {
                Size::Least => 4,
                Size::Part => 8,
                Size::Whole => 16,
            },
            runs: if share > 4.0 { 3 } else { 1 },
        };
        let model = GpuModel::random(Arc::clone(gpu), config, 1, plan.storage.1);
        let measured = block_on(model)
            .map(Arc::new)
            .and_then(|model| block_on(bench::decode(&model, options)));
        let report = match measured {
            Ok(report) => report,
            // A smaller one ran, and this one does not fit: that is no failure.
            Err(error) if last.is_some() && error.is_of_device() && !gpu.is_lost() => {
                speed.reason = Some(format!("larger ones do not run: {error}"));
                break;
            }
            Err(error) => return Err(of_engine(error)),
        };
        let per_token = |count: u64| count as f64 / report.tokens.max(1) as f64;
        speed.parameters = parameters as usize;
        speed.whole = size == Size::Whole;
        speed.decode_tokens_per_second = report.median(|run| run.tokens_per_second);
        speed.prefill_tokens_per_second = report.median(|run| run.prefill_tokens_per_second);
        speed.bytes_per_token = per_token(report.needed_bytes);
        speed.bytes_per_second = speed.bytes_per_token * speed.decode_tokens_per_second;
        speed.share_of_copy = speed.bytes_per_second / copy.max(1.0);
        speed.launches_per_token = per_token(report.counters.launches);
        last = Some((begun.elapsed().as_secs_f64(), parameters));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_planned_and_every_size_is_valid() {
        let plans = plans(Variant::Portable);
        assert_eq!(plans.len(), 27);
        assert_eq!(plans[0].variant, Variant::Portable);
        for preset in ON_GPUS {
            let count = |size: Size| {
                let config = size.of(preset);
                config.validate(preset.name().as_ref()).expect("valid");
                config.parameter_count().total
            };
            let counts = Size::ALL.map(count);
            assert!(counts.is_sorted(), "{counts:?}");
        }
    }
}
