//! The technical model computes what the original PyTorch model computed.

use crate::common::{
    self, TECHNICAL, assert_generates, assert_gradients, assert_scalar, distance, inputs, ints,
    numbers, on_every_device, open, steps, values,
};
use burn::tensor::{Device, Tensor, activation};
use mor_config::{Depth, HaltedRows, ModelConfig, RouterKind};
use mor_model::{ForwardOptions, Model, RouterLoss};

fn config() -> ModelConfig {
    common::config(TECHNICAL)
}

fn model(config: &ModelConfig, device: &Device) -> Model {
    common::model(TECHNICAL, config, device)
}

/// Runs a case and compares logits, steps, router probabilities and computation loss.
fn check(case: &str, config: &ModelConfig, logits_name: &str, steps_name: &str, device: &Device) {
    let model = model(config, device);
    let io = open(TECHNICAL, &format!("{case}.io"));
    let (ids, options) = inputs(&io, device);
    let output = model.forward(ids, &options).expect("valid input");

    assert_eq!(
        steps(&output),
        io.to_i64(steps_name).expect("steps"),
        "{case}: steps"
    );
    let expected = io.to_f32(logits_name).expect("logits");
    let found = values(model.logits(output.hidden));
    let worst = distance(&found, &expected);
    assert!(worst < 1e-4, "{case}: logits differ by {worst}");
    if io.contains("router_probs") {
        let probs = activation::softmax(Tensor::cat(output.router_logits, 0), 2);
        let probs = values(probs);
        let worst = distance(&probs, &io.to_f32("router_probs").expect("probabilities"));
        assert!(
            worst < 1e-5,
            "{case}: router probabilities differ by {worst}"
        );
    }
    if io.contains("computation_loss") && steps_name == "steps" {
        let cost = io.to_f32("computation_loss").expect("a number");
        assert!(distance(&[output.computation_loss], &cost) < 1e-4, "{case}");
    }
}

fn one_row(device: &Device) {
    for case in ["b1_len1", "b1_len7", "b1_len32"] {
        check(case, &config(), "logits", "steps", device);
    }
}

fn renormalized_batch(device: &Device) {
    for case in ["b4_len16", "b4_rightpad_attn", "b4_rightpad_noattn"] {
        check(case, &config(), "logits", "steps", device);
    }
}

fn frozen_rows_do_not_depend_on_their_batch(device: &Device) {
    let mut config = config();
    config.routing.halted_rows = HaltedRows::Freeze;
    check(
        "b4_len16_rows_alone",
        &config,
        "logits_alone",
        "steps_alone",
        device,
    );
}

fn fixed_and_forced_depth(device: &Device) {
    let mut fixed = config();
    fixed.routing.kind = RouterKind::Fixed;
    fixed.routing.depth = Some(4);
    check("fixed4_b2_len9", &fixed, "logits", "steps", device);

    let io = open(TECHNICAL, "fixed4_b2_len9.io");
    let (ids, mut options) = inputs(&io, device);
    options.depth = Depth::Forced(4);
    let model = model(&config(), device);
    let output = model.forward(ids.clone(), &options).expect("valid");
    let found = values(model.logits(output.hidden));
    assert!(distance(&found, &io.to_f32("logits").expect("logits")) < 1e-4);
    options.depth = Depth::Forced(5);
    let error = model.forward(ids, &options).expect_err("too deep");
    assert!(error.to_string().contains("at most 4"), "{error}");
}

fn gradients(device: &Device) {
    let device = device.clone().autodiff();
    let model = model(&config(), &device);
    let io = open(TECHNICAL, "grads_b4_rightpad.io");
    let (ids, options) = inputs(&io, &device);
    // The original counts a target where the attention mask keeps the position.
    let keep = options.attention_mask.clone().expect("a mask");
    let targets = ints(&io, "targets", &device).mask_fill(keep.bool_not(), -1);
    let targets = numbers(targets);
    let output = model.forward(ids, &options).expect("valid input");
    let cost = output.computation_loss;
    let losses = model.objective(&output, &targets, -1, &RouterLoss::default());
    let losses = losses.expect("shapes");
    let language = values(losses.language)[0];
    assert_scalar(&io, "lm_loss", language);
    // A constant, which trains nothing.
    assert_scalar(&io, "total_loss", language + 1e-4 * cost);

    let gradients = model.take_gradients(&mut losses.total.backward());
    assert_gradients(&config(), &io, gradients, |name| name.contains(".router."));
}

fn greedy_decoding(device: &Device) {
    assert_generates(TECHNICAL, "gen_depth_changes", device);
    assert_generates(TECHNICAL, "gen_steady", device);
}

on_every_device!(
    one_row,
    renormalized_batch,
    frozen_rows_do_not_depend_on_their_batch,
    fixed_and_forced_depth,
    gradients,
    greedy_decoding,
);

#[test]
fn saves_what_it_loads() {
    let device = Device::flex();
    let config = config();
    let weights = open(TECHNICAL, "weights");
    let model = model(&config, &device);
    for ((name, shape, values), spec) in model.to_tensors().into_iter().zip(config.tensors()) {
        assert_eq!((&name, &shape), (&spec.name, &spec.shape));
        assert_eq!(values, weights.to_f32(&name).expect("the tensor"), "{name}");
    }
}

#[test]
fn updates_parameters_in_place() {
    let device = Device::flex().autodiff();
    let config = config();
    let model = Model::new(&config, &device, 7).expect("valid");
    let before = model.to_tensors();
    let model = model.update(|parameter| {
        assert_eq!(parameter.shape, before[parameter.index].1);
        parameter.values.iter_mut().for_each(|v| *v += 1.0);
    });
    for ((name, _, now), (_, _, then)) in model.to_tensors().iter().zip(&before) {
        let moved = now.iter().zip(then).all(|(a, b)| *a == b + 1.0);
        assert!(moved, "{name}");
    }
    // Still trainable.
    let ids = Tensor::from_data([[5, 6, 7]], &device);
    let output = model
        .forward(ids, &ForwardOptions::default())
        .expect("valid input");
    let gradients = model.take_gradients(&mut output.hidden.sum().backward());
    assert!(gradients[0].is_some());
}

#[test]
fn refuses_bad_input() {
    let device = Device::flex();
    let model = model(&config(), &device);
    let run = |ids: Vec<i64>, mask: Option<[usize; 2]>| {
        let ids = Tensor::<1, burn::tensor::Int>::from_data(ids.as_slice(), &device);
        let options = ForwardOptions {
            attention_mask: mask.map(|shape| Tensor::<2>::ones(shape, &device).bool()),
            ..ForwardOptions::default()
        };
        let error = model.forward(ids.unsqueeze(), &options).expect_err("bad");
        error.to_string()
    };
    assert!(run(vec![1; 33], None).contains("33 tokens; this model's context is 32"));
    assert!(run(vec![1, 97], None).contains("token id 97 is outside the vocabulary of 97"));
    assert!(run(vec![1, -1], None).contains("token id -1"));
    assert!(run(vec![1, 2], Some([1, 3])).contains("the attention mask is [1, 3]"));
}
