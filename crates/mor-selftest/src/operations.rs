//! The kernels of inference one by one; and every operation of training, in every variant of its kernels, against the CPU,
//! forward and backward.

use burn::tensor::Device;
use mor_model::gpu::Variant;
use mor_model::operations::{Case, OPERATIONS};

use crate::agreement::{NO_F16, TrainingGpu};
use crate::budget::NO_TIME;
use crate::isolate::isolated;
use crate::kernels;
use crate::{Check, Context, Outcome, Problem};

/// The checks of an operation: for each variant in f32, and where it has such cases in f16.
struct Tried {
    cases: Vec<Case>,
    checks: Vec<(Variant, bool, Check)>,
}

pub(crate) fn run(context: &mut Context) -> Outcome {
    kernels::run(context);
    let gpu = TrainingGpu::open(context)?;
    let mut tried: Vec<Tried> = OPERATIONS
        .iter()
        .map(|op| checks(op.name, op.cases))
        .collect();
    let most = tried.iter().map(|tried| tried.cases.len()).max();
    // A case of each operation, then the next: where time is short each has some.
    for at in 0..most.unwrap_or(0) {
        for Tried { cases, checks } in &mut tried {
            if let Some(case) = cases.get(at) {
                // The first ones, which are small, always run.
                let left_out = at > 0 && context.budget.is_over();
                run_case(&gpu, case, checks, left_out);
            }
        }
    }
    let checks = tried.into_iter().flat_map(|tried| tried.checks);
    let checks = checks.map(
        |(_, _, check)| match check.cases == 0 && check.reason.is_none() {
            true => check.skip(NO_TIME),
            false => check,
        },
    );
    context.found.checks.extend(checks);
    Ok(())
}

fn checks(name: &str, cases: fn() -> Vec<Case>) -> Tried {
    let cases = cases();
    let mut checks = Vec::new();
    for half in [false, true] {
        if cases.iter().any(|case| case.half == half) {
            let storage = if half { "f16" } else { "f32" };
            checks.extend(Variant::ALL.map(|variant| {
                let check = Check::new(name, Some(variant.name()), Some(storage));
                (variant, half, check)
            }));
        }
    }
    Tried { cases, checks }
}

/// Runs a case with each variant, beside the CPU.
fn run_case(gpu: &TrainingGpu, case: &Case, checks: &mut [(Variant, bool, Check)], left_out: bool) {
    let checks = checks.iter_mut().filter(|(_, half, _)| *half == case.half);
    if left_out {
        checks.for_each(|(_, _, check)| check.cases_left_out += 1);
        return;
    }
    let expected = isolated(|| Ok(case.run(&Device::flex())));
    let software = mor_model::gpu::is_software();
    for (variant, _, check) in checks {
        if case.slow_to_compile && software && *variant == Variant::Portable {
            check.cases_left_out += 1;
            continue;
        }
        let outcome = match &expected {
            Ok(expected) => isolated(|| compare(gpu, *variant, case, expected, check)),
            Err(Problem::Failed(reason) | Problem::Skipped(reason)) => {
                Err(Problem::Failed(format!("on the CPU {reason}")))
            }
        };
        match outcome {
            Ok(()) => {}
            Err(Problem::Skipped(reason)) => *check = check.clone().skip(reason),
            Err(Problem::Failed(reason)) => {
                check.cases += 1;
                check.fail(format!("{}: {reason}", case.what));
            }
        }
    }
}

fn compare(
    gpu: &TrainingGpu,
    variant: Variant,
    case: &Case,
    expected: &[Vec<f32>],
    check: &mut Check,
) -> Outcome {
    gpu.use_variant(variant)?;
    if case.half && !gpu.chosen.half {
        return Err(Problem::Skipped(NO_F16.to_owned()));
    }
    let found = case.run(&gpu.chosen.device);
    let differences = case.compare(&found, expected);
    let worst = differences
        .iter()
        .max_by(|a, b| a.largest.total_cmp(&b.largest));
    let Some(worst) = worst else {
        return Err(Problem::Failed("it gave nothing".to_owned()));
    };
    let what = match worst.result {
        0 => case.what.clone(),
        operand => format!("{}, gradient of operand {operand}", case.what),
    };
    check.case(&what, f64::from(worst.largest), f64::from(case.tolerance));
    Ok(())
}
