//! The conversational model computes what the original PyTorch model computed.

use crate::common::{
    self, CONVERSATIONAL, assert_generates, assert_gradients, assert_scalar, distance, ints,
    logits, numbers, on_every_device, open, run, steps, values,
};
use burn::tensor::Device;
use mor_config::{Depth, ModelConfig, RouterKind, Weights};
use mor_model::{ForwardOptions, Losses, Model, RouterLoss};

/// Labels that count for nothing.
const IGNORE: i64 = -100;

fn config() -> ModelConfig {
    common::config(CONVERSATIONAL)
}

fn model(device: &Device) -> Model {
    common::model(CONVERSATIONAL, &config(), device)
}

fn case(name: &str) -> Weights {
    open(CONVERSATIONAL, &format!("{name}.io"))
}

/// The original shifts labels itself: the target of a position is the label of the next.
fn targets(io: &Weights) -> Vec<i64> {
    let [batch, seq] = *io.shape("labels").expect("labels") else {
        panic!("labels are a matrix");
    };
    let labels = io.to_i64("labels").expect("labels");
    (0..batch * seq)
        .map(|at| match at % seq + 1 {
            next if next < seq => labels[at + 1],
            _ => IGNORE,
        })
        .collect()
}

fn losses(model: &Model, io: &Weights, device: &Device) -> Losses {
    let output = run(model, ints(io, "input_ids", device));
    model
        .objective(&output, &targets(io), IGNORE, &RouterLoss::default())
        .expect("shapes")
}

fn logits_routes_and_classes(device: &Device) {
    let model = model(device);
    let mut classes_seen = [false; 3];
    for name in [
        "b1_len1",
        "b1_len32",
        "b4_len16",
        "b4_rightpad",
        "b4_rightpad_loss",
        "future_leak_pair",
    ] {
        let io = case(name);
        let (found, output) = logits(&model, ints(&io, "input_ids", device));
        assert_eq!(steps(&output), io.to_i64("steps").expect("steps"), "{name}");
        let worst = distance(&found, &io.to_f32("logits").expect("logits"));
        assert!(worst < 1e-4, "{name}: logits differ by {worst}");

        let [router] = output.router_logits.as_slice() else {
            panic!("{name}: one router");
        };
        let router = values(router.clone());
        let worst = distance(&router, &io.to_f32("router_logits").expect("logits"));
        assert!(worst < 1e-4, "{name}: router logits differ by {worst}");
        if io.contains("router_class") {
            for (row, class) in io
                .to_i64("router_class")
                .expect("classes")
                .iter()
                .enumerate()
            {
                let row = &router[3 * row..][..3];
                assert!(row.iter().all(|logit| *logit <= row[*class as usize]));
                classes_seen[*class as usize] = true;
            }
        }
    }
    assert_eq!(classes_seen, [true; 3]);
}

fn losses_and_pseudo_classes(device: &Device) {
    let model = model(device);
    let io = case("b4_rightpad_loss");
    assert_scalar(&io, "loss", values(losses(&model, &io, device).total)[0]);

    let io = case("grads_b4_rightpad");
    let found = losses(&model, &io, device);
    assert_scalar(&io, "loss", values(found.total)[0]);
    assert_scalar(&io, "lm_loss", values(found.language)[0]);
    assert_scalar(
        &io,
        "router_loss",
        values(found.router.expect("a router"))[0],
    );
    let expected = io.to_f32("row_ppl").expect("perplexities");
    for (found, expected) in found.row_perplexity.iter().zip(&expected) {
        assert!(
            (found - expected).abs() < 1e-4 * expected,
            "{found} is not {expected}"
        );
    }
    let classes: Vec<i64> = found.pseudo_classes.iter().map(|c| *c as i64).collect();
    assert_eq!(classes, io.to_i64("pseudo_class").expect("classes"));
    for class in 0..3 {
        assert!(classes.contains(&class), "the case has every class");
    }
}

fn gradients(device: &Device) {
    let device = device.clone().autodiff();
    let model = model(&device);
    let io = case("grads_b4_rightpad");
    let losses = losses(&model, &io, &device);
    let gradients = model.take_gradients(&mut losses.total.backward());
    assert_gradients(&config(), &io, gradients, |_| false);
}

#[test]
fn the_language_loss_does_not_teach_the_router() {
    let device = Device::flex().autodiff();
    let model = model(&device);
    let losses = losses(&model, &case("grads_b4_rightpad"), &device);
    let gradients = model.take_gradients(&mut losses.language.backward());
    for (spec, gradient) in config().tensors().iter().zip(gradients) {
        let router = spec.name.starts_with("router.");
        assert_eq!(gradient.is_none(), router, "{}", spec.name);
    }
}

#[test]
fn nothing_to_predict_gives_numbers() {
    let device = Device::flex().autodiff();
    let model = model(&device);
    let io = case("grads_b4_rightpad");
    let ids = ints(&io, "input_ids", &device);
    let output = run(&model, ids.clone());
    let ignored = vec![IGNORE; ids.shape().num_elements()];
    let losses = model
        .objective(&output, &ignored, IGNORE, &RouterLoss::default())
        .expect("shapes");
    assert_eq!(values(losses.language), [0.0]);
    assert_eq!(losses.row_perplexity, [1.0; 4]);
    assert_eq!(losses.pseudo_classes, [0; 4]);
    let total = values(losses.total.clone())[0];
    assert!(total.is_finite() && total > 0.0, "{total}");
    let gradients = model.take_gradients(&mut losses.total.backward());
    assert!(gradients.iter().flatten().flatten().all(|g| g.is_finite()));
}

fn greedy_decoding(device: &Device) {
    for name in ["gen_depth_changes", "gen_steady", "gen_stops_at_eos"] {
        assert_generates(CONVERSATIONAL, name, device);
    }
    let last = case("gen_stops_at_eos").to_i64("generated_ids");
    assert_eq!(last.expect("ids").last(), Some(&95));
}

#[test]
fn rows_do_not_depend_on_their_batch() {
    let device = Device::flex();
    let model = model(&device);
    let io = case("b4_len16");
    let ids = ints(&io, "input_ids", &device);
    let (batch, _) = logits(&model, ids.clone());
    let mut alone = Vec::new();
    for row in 0..4 {
        alone.extend(logits(&model, ids.clone().narrow(0, row, 1)).0);
    }
    assert_eq!(batch, alone);
}

fn fixed_and_forced_depth(device: &Device) {
    let adaptive = model(device);
    // The rows of this pair are routed to one and to five steps.
    let io = case("future_leak_pair");
    let ids = ints(&io, "input_ids", device);
    let expected = io.to_f32("logits").expect("logits");
    let row = expected.len() / 2;
    for (row_at, depth) in [1, 5].into_iter().enumerate() {
        let options = ForwardOptions {
            depth: Depth::Forced(depth),
            ..ForwardOptions::default()
        };
        let output = adaptive.forward(ids.clone(), &options).expect("valid");
        assert_eq!(output.steps, [vec![depth; 2]]);
        assert!(output.router_logits.is_empty());
        let found = values(adaptive.logits(output.hidden));
        let rows = row_at * row..(row_at + 1) * row;
        assert!(distance(&found[rows.clone()], &expected[rows]) < 1e-4);
    }

    let mut config = config();
    config.routing.kind = RouterKind::Fixed;
    config.routing.depth = Some(5);
    let fixed = common::model(CONVERSATIONAL, &config, device);
    let (found, _) = logits(&fixed, ids.clone());
    assert!(distance(&found[row..], &expected[row..]) < 1e-4);
    // Without a router there is nothing to teach.
    let output = run(&fixed, ids.clone());
    let losses = fixed.objective(&output, &numbers(ids), IGNORE, &RouterLoss::default());
    assert!(losses.expect("shapes").router.is_none());
}

#[test]
fn saves_what_it_loads() {
    let weights = open(CONVERSATIONAL, "weights");
    let tensors = model(&Device::flex()).to_tensors();
    for ((name, shape, values), spec) in tensors.into_iter().zip(config().tensors()) {
        assert_eq!((&name, &shape), (&spec.name, &spec.shape));
        assert_eq!(values, weights.to_f32(&name).expect("the tensor"), "{name}");
    }
}

on_every_device!(
    logits_routes_and_classes,
    losses_and_pseudo_classes,
    gradients,
    greedy_decoding,
    fixed_and_forced_depth,
);
