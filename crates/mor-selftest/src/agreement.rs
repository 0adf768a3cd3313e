//! What parts share that compare a GPU with the CPU.

use std::sync::Arc;

use mor_engine::EngineError;
use mor_engine::gpu::{Gpu, Variant};
use mor_model::{ChosenDevice, DeviceChoice, open_device};
use pollster::block_on;

use crate::{Context, Outcome, Problem};

/// Why kernels of a variant do not run.
const NO_SUBGROUPS: &str = "the adapter has no subgroup operations";
/// Why nothing is stored as f16 in training.
pub(crate) const NO_F16: &str = "the adapter has no shader-f16";

/// A GPU for inference with kernels of a variant, opened anew.
pub(crate) fn inference_gpu(context: &Context, variant: Option<Variant>) -> Outcome<Arc<Gpu>> {
    let gpu = block_on(Gpu::open_with(variant)).map_err(of_engine)?;
    if let Some(replacement) = context.options.replacement {
        gpu.replace(replacement);
    }
    Ok(gpu)
}

/// What the engine refused: what an adapter cannot do is no failure.
pub(crate) fn of_engine(error: EngineError) -> Problem {
    match error {
        EngineError::MissingFeature {
            adapter, feature, ..
        } => Problem::Skipped(format!("{adapter} has no {feature}")),
        other => other.into(),
    }
}

/// The GPU that training runs on. Its kernels are as they were before when it is dropped.
pub(crate) struct TrainingGpu {
    pub(crate) chosen: ChosenDevice,
    before: Variant,
}

impl TrainingGpu {
    pub(crate) fn open(context: &Context) -> Outcome<Self> {
        let chosen = open_device(DeviceChoice::Gpu)?;
        mor_model::gpu::replace(context.options.replacement);
        Ok(Self {
            chosen,
            before: mor_model::gpu::variant(),
        })
    }

    /// Makes its kernels those of a variant.
    pub(crate) fn use_variant(&self, variant: Variant) -> Outcome {
        if !mor_model::gpu::supports(variant) {
            return Err(Problem::Skipped(NO_SUBGROUPS.to_owned()));
        }
        mor_model::gpu::set_variant(variant);
        Ok(())
    }
}

impl Drop for TrainingGpu {
    fn drop(&mut self) {
        mor_model::gpu::set_variant(self.before);
        mor_model::gpu::replace(None);
    }
}

/// The CPU that training runs on.
pub(crate) fn training_cpu() -> Outcome<ChosenDevice> {
    Ok(open_device(DeviceChoice::Cpu)?)
}

/// The largest absolute difference; infinite where a number is none, or the lengths differ.
pub(crate) fn distance(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |most, (found, expected)| {
        let apart = f64::from((found - expected).abs());
        // `max` would pass over what is not a number.
        match apart.is_nan() {
            true => f64::INFINITY,
            false => most.max(apart),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_far_away() {
        assert_eq!(distance(&[1.0, 2.5], &[1.0, 2.0]), 0.5);
        assert_eq!(distance(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(distance(&[f32::NAN, 1.0], &[1.0, 1.0]), f64::INFINITY);
    }
}
