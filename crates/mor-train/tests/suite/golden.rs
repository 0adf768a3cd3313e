//! Eight optimizer steps repeat what the original's training did, from its golden vectors.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use mor_config::{ModelConfig, Weights};
use mor_model::{ForwardOptions, Model, RouterLoss};
use mor_train::optimizer::{Gradients, Optimizer, clip_scale};
use mor_train::recipe::{AdamWSettings, OptimizerSettings};
use mor_train::schedule::{Decay, Moment, Schedule};

const IGNORE: i64 = -100;
/// Steps that the original's schedule was made for.
const STEPS: f64 = 20.0;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/goldens")
        .join(format!("m1_learned.{name}"))
}

fn open(name: &str) -> Weights {
    Weights::open(&golden(&format!("{name}.safetensors"))).expect("a golden file")
}

fn matrix(values: Vec<i64>, device: &Device) -> Tensor<2, Int> {
    let columns = values.len() / 4;
    Tensor::from_data(TensorData::new(values, [4, columns]), device)
}

#[test]
fn adamw_follows_the_original() {
    let device = Device::flex().autodiff();
    let text = std::fs::read(golden("config.json")).expect("readable");
    let config = ModelConfig::from_json(&text, Path::new("config.json")).expect("valid");
    let weights = open("weights");
    let mut model = Model::from_weights(&config, &weights, &device).expect("golden weights");

    let io = open("train8_adamw.io");
    let ids = io.to_i64("input_ids").expect("ids");
    let mask = io.to_i64("attention_mask").expect("a mask");
    // The batch is that of the gradients' file, which has the targets.
    let batch = open("grads_b4_rightpad.io");
    assert_eq!(ids, batch.to_i64("input_ids").expect("ids"));
    let targets = batch.to_i64("targets").expect("targets");
    let kept = targets.into_iter().zip(&mask);
    let targets = kept.map(|(id, kept)| if *kept == 1 { id } else { IGNORE });
    let targets: Vec<i64> = targets.collect();
    let ids = matrix(ids, &device);
    let options = ForwardOptions {
        attention_mask: Some(matrix(mask, &device).equal_elem(1)),
        ..ForwardOptions::default()
    };

    let settings = OptimizerSettings::AdamW(AdamWSettings {
        betas: [0.9, 0.99],
        epsilon: 1e-6,
        weight_decay: 0.01,
    });
    let mut optimizer = Optimizer::new(&config, &settings);
    let schedule = Schedule {
        peak: 5e-4,
        warmup: 5.0 / STEPS,
        warmup_steps: None,
        decay: Decay::Cosine,
        decay_fraction: 1.0,
        floor: 0.0,
        after_step: true,
    };
    let losses_of = RouterLoss {
        compute_penalty: 1e-4,
        ..RouterLoss::default()
    };
    let trajectory = io.to_f32("trajectory").expect("a trajectory");
    for (step, expected) in trajectory.chunks_exact(8).enumerate() {
        let rate = schedule.learning_rate(Moment {
            step: step as u64,
            progress: step as f64 / STEPS,
            resolution: 1.0 / STEPS,
        });
        let output = model.forward(ids.clone(), &options).expect("valid input");
        let losses = model
            .objective(&output, &targets, IGNORE, &losses_of)
            .expect("shapes");
        let language = losses.language.into_scalar::<f32>();
        let depths = output.steps.iter().map(|steps| steps.iter().sum::<usize>());
        let mut found = vec![
            rate as f32,
            losses.total.clone().into_scalar::<f32>(),
            language,
            output.computation_loss,
        ];
        let depths: Vec<f32> = depths.map(|sum| sum as f32).collect();
        drop(output);
        let gradients = Gradients::take(&model, &mut losses.total.backward(), false);
        let norm = gradients.norm();
        found.push(norm as f32);
        found.extend(depths);
        for (column, (found, expected)) in found.iter().zip(expected).enumerate() {
            // The rate is far below one: hold it to a share of itself.
            let scale = if column == 0 { *expected } else { 1.0 };
            let difference = (found - expected).abs();
            assert!(
                difference < 1e-4 * scale,
                "step {step}, column {column}: {found} is not {expected}"
            );
        }
        model = optimizer.step(
            model,
            gradients,
            rate,
            clip_scale(norm, 1.0),
            mor_model::MatmulPrecision::F32,
        );
    }

    let tensors = model.to_tensors();
    let mut compared = 0;
    for (name, _, values) in tensors {
        let key = format!("final.{name}");
        let difference = |expected: &[f32]| {
            let pairs = values.iter().zip(expected);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        if io.contains(&key) {
            let expected = io.to_f32(&key).expect("the tensor");
            assert_eq!(values.len(), expected.len());
            assert!(
                difference(&expected) < 1e-4,
                "{name}: {}",
                difference(&expected)
            );
            compared += 1;
        }
        // Routers get no gradient: nothing moves them, not even the decay.
        if name.contains(".router.") {
            let start = weights.to_f32(&name).expect("the tensor");
            assert_eq!(values, start, "{name}");
        }
    }
    assert_eq!(compared, 4);
}
