//! Technical routers that learn on a GPU: their losses and gradients against the CPU's, and in f16 against f32.
use crate::common::gpu::gpu;
use crate::common::{self, TECHNICAL, inputs, numbers, open};
use burn::tensor::Device;
use mor_config::{HaltedRows, ModelConfig, Pooling};
use mor_model::gpu::Variant;
use mor_model::{ForwardOptions, Losses, Output, RouterLoss};

/// The price of a step: dear, so that a wrong one shows beside the cross-entropy.
const PENALTY: f32 = 0.5;

/// What a training step computes with the golden weights: losses, depths, and the gradients of every parameter.
struct Found {
    language: f32,
    total: f32,
    steps: Vec<Vec<usize>>,
    gradients: Vec<Option<Vec<f32>>>,
}

fn learn(config: &ModelConfig, device: &Device, half: bool) -> Found {
    let device = device.clone().autodiff();
    let model = common::model(TECHNICAL, config, &device);
    let (ids, options) = inputs(&open(TECHNICAL, "b4_len16.io"), &device);
    // Depths are the likeliest ones: drawn ones would be others on each device.
    let options = ForwardOptions {
        straight_through: true,
        half,
        ..options
    };
    let output = model.forward(ids.clone(), &options).expect("valid input");
    let settings = RouterLoss {
        compute_penalty: PENALTY,
        ..RouterLoss::default()
    };
    let losses = model.objective(&output, &numbers(ids), -1, &settings);
    let Losses {
        total, language, ..
    } = losses.expect("shapes");
    let Output { steps, .. } = output;
    let gradients = model.take_gradients(&mut total.clone().backward());
    Found {
        language: language.into_scalar(),
        total: total.into_scalar(),
        steps,
        gradients,
    }
}

/// Holds a loss, and each gradient to a part of the largest number in its tensor, or in a thousandth of all.
fn close(what: &str, config: &ModelConfig, found: &Found, expected: &Found, tolerance: f32) {
    assert_eq!(found.steps, expected.steps, "{what}");
    let largest = |gradient: &[f32]| gradient.iter().fold(0.0_f32, |most, g| most.max(g.abs()));
    let all = expected.gradients.iter().flatten();
    let all = all.map(|g| largest(g)).fold(0.0, f32::max);
    let apart = (found.total - expected.total).abs();
    println!("{what}: losses differ by {apart:.1e}");
    assert!(apart < tolerance * expected.total, "{what}: {apart}");
    let mut routers = 0;
    for (at, spec) in config.tensors().iter().enumerate() {
        let what = format!("{what}, {}", spec.name);
        match (&found.gradients[at], &expected.gradients[at]) {
            (Some(found), Some(expected)) => {
                let worst = common::distance(found, expected);
                let largest = largest(expected).max(1e-3 * all);
                assert!(worst < tolerance * largest, "{what}: {worst} of {largest}");
                routers += usize::from(spec.name.contains(".router."));
            }
            (None, None) => {}
            _ => panic!("{what}: a gradient on one device only"),
        }
    }
    assert!(routers > 0, "{what}: no router learned");
}

/// Both ways in which halted rows are dealt with, and depths of rows and of positions.
fn configurations() -> Vec<ModelConfig> {
    let kinds = [
        (Pooling::Sequence, HaltedRows::Renormalize),
        (Pooling::Sequence, HaltedRows::Freeze),
        (Pooling::Prefix, HaltedRows::Freeze),
    ];
    let with = |(pooling, halted_rows)| {
        let mut config = common::config(TECHNICAL);
        config.routing.pooling = pooling;
        config.routing.halted_rows = halted_rows;
        config
    };
    kinds.into_iter().map(with).collect()
}

#[test]
fn routers_learn_as_on_the_cpu() {
    for config in configurations() {
        let expected = learn(&config, &Device::flex(), false);
        for variant in Variant::ALL {
            let (device, _guard) = gpu(variant);
            let found = learn(&config, &device, false);
            let what = format!("{variant}, {:?}", config.routing.pooling);
            close(&what, &config, &found, &expected, 1e-3);
        }
    }
}

/// The price of steps has a gradient through the routers, and joins losses that are f32.
#[test]
fn routers_learn_in_half_precision() {
    // Not by position: of so many decisions one lies where rounding may turn it.
    let by_row = |config: &ModelConfig| config.routing.pooling != Pooling::Prefix;
    for config in configurations().into_iter().filter(by_row) {
        let (device, _guard) = gpu(Variant::Portable);
        let expected = learn(&config, &device, false);
        let found = learn(&config, &device, true);
        let price = found.total - found.language;
        let exact = expected.total - expected.language;
        assert!((price - exact).abs() < 1e-3, "{price} is not {exact}");
        let what = format!("f16, {:?}", config.routing.pooling);
        close(&what, &config, &found, &expected, 5e-2);
    }
}
