//! The golden vectors of the two original models, and small models of both families in every variant and storage: on the
//! GPU for inference against the CPU, and on the one for training, forward and backward, against the originals.

mod inference;
mod training;

use mor_engine::gpu::Variant;

use crate::agreement::{TrainingGpu, inference_gpu};
use crate::budget::NO_TIME;
use crate::isolate::isolated;
use crate::{Check, Context, Outcome, Problem};

pub(crate) fn run(context: &mut Context) -> Outcome {
    for variant in Variant::ALL {
        let opened = isolated(|| inference_gpu(context, Some(variant)));
        match opened {
            Ok(gpu) => inference::run(context, variant, &gpu),
            Err(problem) => {
                let check = Check::new("inference", Some(variant.name()), None);
                context.found.checks.push(check.end(Err(problem)));
            }
        }
    }
    let gpu = TrainingGpu::open(context)?;
    for variant in Variant::ALL {
        training::run(context, variant, &gpu);
    }
    Ok(())
}

/// Runs a comparison by itself and keeps what it found.
fn compared(
    context: &mut Context,
    mut check: Check,
    always: bool,
    work: impl FnOnce(&mut Check) -> Outcome,
) {
    let outcome = match !always && context.budget.is_over() {
        true => Err(Problem::Skipped(NO_TIME.to_owned())),
        false => isolated(|| work(&mut check)),
    };
    context.found.checks.push(check.end(outcome));
}
