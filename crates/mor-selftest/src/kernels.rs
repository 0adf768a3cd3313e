//! Kernels of inference one by one, in every variant and storage, against plain loops in f64. What lies between them, above
//! all routing, is compared in whole models.

mod operands;
mod plain;
mod rows;
mod weights;

use std::sync::Arc;

use mor_engine::gpu::{Gpu, TrialParams, Variant, run_shader};
use mor_shaders::{Shader, Storage};
use pollster::block_on;

use crate::agreement::inference_gpu;
use crate::budget::NO_TIME;
use crate::isolate::isolated;
use crate::{Check, Context, Outcome, Problem};
use rows::{attention_decode, finish, layer_norm, sample};
use weights::{embed, matmul, matvec, normed_matvec};

/// How far a number may be from the loops', as a part of the largest one, or of 1.
const TOLERANCE: f64 = 2e-5;
const EPS: f32 = 1e-5;

/// Values of a row that count, of columns of weights, and of elements between rows.
const DIM: usize = 80;
const COLUMNS: usize = 96;
const STRIDE: usize = 128;
/// Rows of weights: less than a tile more than one.
const ROWS: usize = 75;
/// Rows that are read at once.
const MANY: usize = 7;

/// What a kernel should leave in a buffer that it writes.
enum Expected {
    /// Nothing in particular.
    Any,
    /// These numbers.
    Floats(Vec<f64>),
    /// These words in the first places.
    Words(Vec<u32>),
}

/// A kernel with its operands and what should come of them.
struct Trial {
    name: &'static str,
    shader: Shader,
    buffers: Vec<Vec<u32>>,
    numbers: TrialParams,
    grid: [u32; 3],
    /// By buffer that it writes.
    expected: Vec<Expected>,
}

static STORAGES: [(&str, Storage); 3] = [
    ("f32", Storage::F32),
    ("f16", Storage::F16),
    ("q8", Storage::Q8),
];

/// Makes a trial for a variant and a storage.
type Make = fn(Variant, Storage) -> Trial;

/// Those that read weights, and those that do not.
static WITH_WEIGHTS: [Make; 4] = [matvec, normed_matvec, matmul, embed];
static WITHOUT: [Make; 4] = [layer_norm, attention_decode, sample, finish];

pub(crate) fn run(context: &mut Context) {
    for variant in Variant::ALL {
        let gpu = isolated(|| inference_gpu(context, Some(variant)));
        let trials = STORAGES.iter().flat_map(|storage| {
            let others = match storage.1 {
                Storage::F32 => &WITHOUT[..],
                Storage::F16 | Storage::Q8 => &[],
            };
            let all = WITH_WEIGHTS.iter().chain(others);
            all.map(move |make| (*storage, make))
        });
        for ((storage_name, storage), make) in trials {
            let trial = make(variant, storage);
            let mut check = Check::new(trial.name, Some(variant.name()), Some(storage_name));
            let outcome = match &gpu {
                // On a slow adapter each takes some milliseconds: without time too, those in f32 run.
                Ok(_) if storage != Storage::F32 && context.budget.is_over() => {
                    Err(Problem::Skipped(NO_TIME.to_owned()))
                }
                Ok(gpu) if storage == Storage::F16 && !gpu.unpacks_f16() => {
                    let reason = "the adapter has no way to unpack f16 weights";
                    Err(Problem::Skipped(reason.to_owned()))
                }
                Ok(gpu) => isolated(|| compare(gpu, trial, &mut check)),
                Err(Problem::Skipped(reason)) => Err(Problem::Skipped(reason.clone())),
                Err(Problem::Failed(reason)) => Err(Problem::Failed(reason.clone())),
            };
            context.found.checks.push(check.end(outcome));
        }
    }
}

fn compare(gpu: &Arc<Gpu>, trial: Trial, check: &mut Check) -> Outcome {
    let Trial {
        name,
        shader,
        buffers,
        numbers,
        grid,
        expected,
    } = trial;
    let found = block_on(run_shader(gpu, shader, &buffers, numbers, grid))?;
    check.exact(found.len() == expected.len(), || {
        format!("{name} wrote {} buffers", found.len())
    });
    for (found, expected) in found.iter().zip(&expected) {
        match expected {
            Expected::Any => {}
            Expected::Words(words) => check.exact(found.starts_with(words), || {
                let found = &found[..words.len().min(found.len())];
                format!("{name} gave {found:?}, not {words:?}")
            }),
            Expected::Floats(expected) => {
                let scale = expected.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
                let pairs = found.iter().zip(expected);
                let apart = pairs.fold(0.0_f64, |most, (found, expected)| {
                    let apart = (f64::from(f32::from_bits(*found)) - expected).abs() / scale;
                    match apart.is_nan() {
                        true => f64::INFINITY,
                        false => most.max(apart),
                    }
                });
                check.case(name, apart, TOLERANCE);
            }
        }
    }
    Ok(())
}
