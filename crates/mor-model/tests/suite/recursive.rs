//! The recursive model against its formulas in f64, in a batch of rows of several lengths; who may know of whom; and its
//! gradients.

use crate::common::{distance, ids, on_every_device, values};
use burn::tensor::{Device, Int, Tensor, TensorData};
use mor_config::{LoopKeys, ModelConfig};
use mor_goldens::{Loops, Named, random_weights, recursive, run_recursive};
use mor_model::{ForwardOptions, Model, RouterLoss};
use safetensors::Dtype;

/// Two rows, one of which ends in pads.
const ROWS: [[i64; 12]; 2] = [
    [7, 3, 22, 41, 9, 60, 13, 3, 3, 28, 55, 4],
    [33, 12, 5, 5, 18, 47, 0, 0, 0, 0, 0, 0],
];
/// Depths of their positions.
const DEPTHS: [[usize; 12]; 2] = [
    [1, 3, 2, 1, 1, 2, 3, 3, 1, 2, 1, 3],
    [2, 1, 1, 3, 1, 2, 1, 1, 2, 1, 1, 1],
];

fn models(device: &Device) -> Vec<(ModelConfig, Named, Model)> {
    let kinds = [LoopKeys::Deepest, LoopKeys::Active];
    let model = |kv| {
        let config = recursive(kv);
        let (named, weights) = random_weights(&config, Dtype::F32).expect("valid");
        let model = Model::from_weights(&config, &weights, device).expect("valid");
        (config, named, model)
    };
    kinds.map(model).into()
}

/// Row by row, each position's distance from the formulas in logits.
fn compare(config: &ModelConfig, named: &Named, model: &Model, device: &Device, given: bool) {
    let options = ForwardOptions {
        steps: given.then(|| vec![DEPTHS.concat()]),
        ..ForwardOptions::default()
    };
    let output = model.forward(ids(ROWS, device), &options).expect("valid");
    let logits = values(model.logits(output.hidden.clone()));
    let (width, vocab) = (ROWS[0].len(), config.vocab_size);
    let mut taken = std::collections::BTreeSet::new();
    for (row, row_ids) in ROWS.iter().enumerate() {
        let row_ids: Vec<u32> = row_ids.iter().map(|id| *id as u32).collect();
        let loops = match given {
            true => Loops::Given(&DEPTHS[row]),
            false => Loops::Gated(f64::from(config.gate_threshold(options.depth))),
        };
        let expected = run_recursive(config, named, &row_ids, loops);
        assert!(expected.margin > 1e-4, "a decision of row {row} is close");
        let steps = &output.steps[0][row * width..][..width];
        assert_eq!(steps, expected.depths, "{:?}, row {row}", config.routing.kv);
        taken.extend(expected.depths);
        for (at, expected) in expected.logits.iter().enumerate() {
            let found = &logits[(row * width + at) * vocab..][..vocab];
            let expected: Vec<f32> = expected.iter().map(|x| *x as f32).collect();
            let apart = distance(found, &expected);
            assert!(
                apart < 1e-4,
                "{:?}, row {row}, {at}: {apart}",
                config.routing.kv
            );
        }
    }
    assert!(taken.len() > 2, "too few depths: {taken:?}");
}

fn depths_of_their_own(device: &Device) {
    for (config, named, model) in models(device) {
        compare(&config, &named, &model, device, true);
    }
}

fn gates_decide(device: &Device) {
    for (config, named, model) in models(device) {
        compare(&config, &named, &model, device, false);
    }
}

on_every_device!(depths_of_their_own, gates_decide);

#[test]
fn later_tokens_change_nothing_to_the_bit() {
    let device = Device::flex();
    for (config, _, model) in models(&device) {
        let last = ROWS[0].len() - 1;
        let run = |id: i64| {
            let mut rows = [ROWS[0]];
            rows[0][last] = id;
            let output = model.forward(ids(rows, &device), &ForwardOptions::default());
            let output = output.expect("valid");
            let logits = values(model.logits(output.hidden));
            (logits[..last * config.vocab_size].to_vec(), output.steps)
        };
        let (expected, steps) = run(4);
        let mut ends = std::collections::BTreeSet::from([steps[0][last]]);
        for id in [1, 17, 30, 44, 59] {
            let (found, steps) = run(id);
            assert_eq!(distance(&found, &expected), 0.0, "{id}");
            ends.insert(steps[0][last]);
        }
        assert!(ends.len() > 1, "the last tokens all took as many loops");
    }
}

#[test]
fn equal_depths_are_a_forced_depth() {
    let device = Device::flex();
    for (_, _, model) in models(&device) {
        for depth in 1..=3 {
            let run = |options: ForwardOptions| {
                let output = model.forward(ids(ROWS, &device), &options);
                values(output.expect("valid").hidden)
            };
            let each = run(ForwardOptions {
                steps: Some(vec![vec![depth; 24]]),
                ..ForwardOptions::default()
            });
            let forced = run(ForwardOptions {
                depth: mor_config::Depth::Forced(depth),
                ..ForwardOptions::default()
            });
            assert_eq!(each, forced);
        }
    }
}

#[test]
fn states_lead_to_what_forced_depths_give() {
    let device = Device::flex();
    let options = ForwardOptions::default();
    for (_, _, model) in models(&device) {
        let all = ids(ROWS, &device);
        let states = model.loop_states(all.clone(), &options).expect("valid");
        let states = states.expect("a recursive model");
        assert_eq!(states.len(), 4);
        for (depth, state) in states.into_iter().enumerate().skip(1) {
            let found = model.after_loops(state, &all, &options).expect("valid");
            let options = ForwardOptions {
                depth: mor_config::Depth::Forced(depth),
                ..ForwardOptions::default()
            };
            let expected = model.forward(all.clone(), &options).expect("valid").hidden;
            assert_eq!(values(found), values(expected), "depth {depth}");
        }
    }
}

/// The loss along the direction of its own gradient, against finite differences: with depths of their own, positions
/// have a part in the loss by their own states and by keys that deeper ones see.
#[test]
fn gradients_are_those_of_finite_differences() {
    let device = Device::flex().autodiff();
    for (config, _, model) in models(&device) {
        let options = ForwardOptions {
            steps: Some(vec![DEPTHS.concat()]),
            ..ForwardOptions::default()
        };
        let targets: Vec<i64> = (0..24).map(|at| (at * 7 + 3) % 61).collect();
        let loss = |model: &Model| {
            let rows = TensorData::new(ROWS.concat(), [2, 12]);
            let rows: Tensor<2, Int> = Tensor::from_data(rows, &device);
            let output = model.forward(rows, &options).expect("valid");
            let losses = model.objective(&output, &targets, -1, &RouterLoss::default());
            losses.expect("shapes").total
        };
        let gradients = model.take_gradients(&mut loss(&model).backward());
        for (spec, gradient) in config.tensors().iter().zip(&gradients) {
            // Given depths ask no gate.
            assert_eq!(
                gradient.is_none(),
                spec.name.starts_with("gates."),
                "{}",
                spec.name
            );
        }
        let squares = gradients.iter().flatten().flatten();
        let slope: f64 = squares.map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let moved = |by: f64| {
            let model = model.clone().update(|parameter| {
                if let Some(gradient) = &gradients[parameter.index] {
                    let values = parameter.values.iter_mut().zip(gradient);
                    values.for_each(|(x, g)| *x += (f64::from(*g) / slope * by) as f32);
                }
            });
            f64::from(loss(&model).into_scalar::<f32>())
        };
        let step = 4e-3;
        let found = (moved(step) - moved(-step)) / (2.0 * step);
        let apart = (found - slope).abs() / slope;
        assert!(
            apart < 5e-3,
            "{:?}: {found} is not {slope}",
            config.routing.kv
        );
    }
}
