//! Whether a short training on the GPU has the losses of the same one on the CPU.

use mor_config::{Depth, ModelConfig, Preset};
use mor_model::ChosenDevice;
use mor_train::recipe::{AdamWSettings, Matmul, MuonSettings, OptimizerSettings};
use mor_train::steps::{MadeUp, StepSettings, Steps};

use crate::agreement::{NO_F16, TrainingGpu, training_cpu};
use crate::budget::Budget;
use crate::isolate::isolated;
use crate::{Check, Context, Outcome, Problem};

/// How far a loss in f32 may be from the CPU's.
const F32: f64 = 1e-3;
/// How far one in f16 may be, from the CPU's in f32.
const F16: f64 = 0.1;
/// Steps; fewer where time is short.
const STEPS: usize = 20;
/// The fewest steps.
const LEAST: usize = 5;
/// Tokens that chains are made of.
const TOKENS: usize = 48;

pub(crate) fn run(context: &mut Context) -> Outcome {
    let (gpu, cpu) = (TrainingGpu::open(context)?, training_cpu()?);
    let adamw = OptimizerSettings::AdamW(AdamWSettings {
        betas: [0.9, 0.99],
        epsilon: 1e-8,
        weight_decay: 0.01,
    });
    let muon = OptimizerSettings::Muon(MuonSettings {
        momentum: 0.95,
        weight_decay: 0.0,
        betas: [0.9, 0.99],
        epsilon: 1e-8,
        embedding_rate: 1.0,
        vector_rate: 1.0,
    });
    let (technical, conversational) = (
        small(Preset::Technical10m),
        small(Preset::Conversational198m),
    );
    let trainings = [
        ("technical model, adamw", &technical, &adamw, Matmul::F32),
        ("technical model, muon", &technical, &muon, Matmul::F32),
        (
            "conversational model, adamw",
            &conversational,
            &adamw,
            Matmul::F32,
        ),
        ("technical model, adamw", &technical, &adamw, Matmul::F16),
    ];
    let count = trainings.len();
    for (at, (what, config, optimizer, matmul)) in trainings.into_iter().enumerate() {
        let half = matmul == Matmul::F16;
        let storage = if half { "f16" } else { "f32" };
        let variant = mor_model::gpu::variant().name();
        let mut check = Check::new(what, Some(variant), Some(storage));
        let budget = Budget::new(context.budget.left() / (count - at) as f64);
        let outcome = match half && !gpu.chosen.half {
            true => Err(Problem::Skipped(NO_F16.to_owned())),
            false => isolated(|| {
                let settings = |matmul| StepSettings {
                    batch: 4,
                    seq: 32,
                    depth: Depth::Forced(2),
                    matmul,
                    optimizer: *optimizer,
                    learning_rate: 3e-3,
                    tokens: MadeUp::Chains(TOKENS),
                };
                let losses = train(config, &gpu.chosen, settings(matmul), Some(budget))?;
                let expected = train(config, &cpu, settings(Matmul::F32), None)?;
                compare(&losses, &expected, if half { F16 } else { F32 }, &mut check);
                Ok(())
            }),
        };
        context.found.checks.push(check.end(outcome));
    }
    Ok(())
}

/// A model of a preset's family that learns in a few steps, without noise, which is another on each device.
fn small(preset: Preset) -> ModelConfig {
    let mut config = preset.config();
    config.vocab_size = 96;
    config.hidden_size = 48;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 4;
    config.intermediate_size = 96;
    config.max_position_embeddings = 64;
    config.pad_token_id = 0;
    config.dropout = 0.0;
    config
}

/// The losses of a training: of all steps, or of as many as there is time for.
fn train(
    config: &ModelConfig,
    device: &ChosenDevice,
    settings: StepSettings,
    budget: Option<Budget>,
) -> Outcome<Vec<f64>> {
    let mut steps = Steps::new(config, device, settings)?;
    let mut losses = Vec::new();
    for step in 0..STEPS {
        if step >= LEAST && budget.is_some_and(|budget| budget.is_over()) {
            break;
        }
        let loss;
        (steps, loss) = steps.step()?;
        losses.push(loss);
    }
    Ok(losses)
}

/// Compares every loss, and sees that they fell.
fn compare(losses: &[f64], expected: &[f64], allowed: f64, check: &mut Check) {
    for (step, (loss, expected)) in losses.iter().zip(expected).enumerate() {
        check.case(
            &format!("the loss of step {step}"),
            (loss - expected).abs(),
            allowed,
        );
    }
    check.cases_left_out = expected.len().saturating_sub(losses.len());
    let fell = losses.first().zip(losses.last());
    let fell = fell.is_some_and(|(first, last)| last < first);
    if !fell {
        check.fail(format!("nothing was learned: {losses:?}"));
    }
}
