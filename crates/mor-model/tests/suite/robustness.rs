//! Padding, batches, precision: results stay numbers, and belong to their own row.

use crate::common::{
    self, CONVERSATIONAL, TECHNICAL, distance, ids, ints, logits, numbers, open, run, values,
};
use burn::tensor::{Bool, Device, FloatDType, Int, Tensor, TensorData};
use mor_config::{AdaptiveEmbedding, HaltedRows, ModelConfig, Pooling, Positions};
use mor_model::{ForwardOptions, Model, RouterLoss, ops};

const IGNORE: i64 = -100;

/// The golden models under every pooling, and what else treats pads in its own way.
fn variants() -> Vec<ModelConfig> {
    let mut variants = Vec::new();
    for set in [TECHNICAL, CONVERSATIONAL] {
        for pooling in [Pooling::Sequence, Pooling::Real, Pooling::Prefix] {
            for halted_rows in [HaltedRows::Freeze, HaltedRows::Renormalize] {
                let mut config = common::config(set);
                config.routing.pooling = pooling;
                config.routing.halted_rows = halted_rows;
                variants.push(config);
            }
        }
    }
    let mut config = common::config(TECHNICAL);
    config.positions = Positions::Rotary;
    config.adaptive_embedding = Some(AdaptiveEmbedding {
        cutoffs: vec![10, 40],
        div_val: 2,
    });
    variants.push(config);
    variants
}

fn build(config: &ModelConfig, device: &Device) -> Model {
    Model::new(config, device, 3).expect("valid")
}

/// Rows with pads in front, all pads, pads in the middle and behind.
fn padded(config: &ModelConfig, device: &Device) -> Tensor<2, Int> {
    let p = i64::from(config.pad_token_id);
    ids(
        [
            [p, p, p, 5, 6, 7, 8, 9],
            [p, p, p, p, p, p, p, p],
            [p, 5, p, 6, p, p, 7, 8],
            [5, 6, 7, p, p, p, p, p],
        ],
        device,
    )
}

#[test]
fn pads_give_numbers_forward_and_backward() {
    let device = Device::flex().autodiff();
    for mut config in variants() {
        config.dropout = 0.1;
        let model = build(&config, &device);
        let ids = padded(&config, &device);
        let options = ForwardOptions {
            training: true,
            ..ForwardOptions::default()
        };
        let finite = |values: Vec<f32>| values.iter().all(|value| value.is_finite());
        for targets in [ids.clone(), ids.full_like(IGNORE)].map(numbers) {
            let output = model.forward(ids.clone(), &options).expect("valid");
            assert!(finite(values(output.hidden.clone())), "{config:?}");
            assert!(finite(values(model.logits(output.hidden.clone()))));
            for logits in &output.router_logits {
                assert!(finite(values(logits.clone())));
            }
            let losses = model.objective(&output, &targets, IGNORE, &RouterLoss::default());
            let total = losses.expect("shapes").total;
            assert!(finite(values(total.clone())));
            let gradients = model.take_gradients(&mut total.backward());
            assert!(gradients.into_iter().flatten().all(finite), "{config:?}");
        }
    }
}

#[test]
fn a_mask_of_nothing_gives_numbers() {
    let device = Device::flex();
    for config in variants() {
        let model = build(&config, &device);
        let options = ForwardOptions {
            attention_mask: Some(Tensor::<2>::zeros([1, 4], &device).bool()),
            ..ForwardOptions::default()
        };
        let output = model.forward(ids([[5, 6, 7, 8]], &device), &options);
        let hidden = values(output.expect("valid").hidden);
        assert!(hidden.iter().all(|value| value.is_finite()), "{config:?}");
    }
}

/// Rotary positions are relative, and pads are hidden and not pooled: in front or behind, they change nothing.
#[test]
fn padding_changes_no_real_position() {
    let device = Device::flex();
    let mut technical = common::config(TECHNICAL);
    technical.positions = Positions::Rotary;
    technical.routing.halted_rows = HaltedRows::Freeze;
    for mut config in [technical, common::config(CONVERSATIONAL)] {
        for pooling in [Pooling::Real, Pooling::Prefix] {
            config.routing.pooling = pooling;
            let model = build(&config, &device);
            let p = i64::from(config.pad_token_id);
            let (alone, _) = logits(&model, ids([[5, 6, 7, 8, 9]], &device));
            for (row, start) in [
                ([p, p, p, 5, 6, 7, 8, 9], 3),
                ([5, 6, 7, 8, 9, p, p, p], 0),
                ([p, 5, 6, 7, 8, 9, p, p], 1),
            ] {
                let (padded, _) = logits(&model, ids([row], &device));
                let padded = &padded[start * 97..(start + 5) * 97];
                assert!(distance(padded, &alone) < 1e-5, "{row:?}");
            }
        }
    }
}

#[test]
fn a_frozen_row_never_depends_on_its_batch() {
    let device = Device::flex();
    for set in [TECHNICAL, CONVERSATIONAL] {
        for pooling in [Pooling::Sequence, Pooling::Real, Pooling::Prefix] {
            let mut config = common::config(set);
            config.routing.halted_rows = HaltedRows::Freeze;
            config.routing.pooling = pooling;
            let model = common::model(set, &config, &device);
            let io = open(set, "b4_len16.io");
            let ids = ints(&io, "input_ids", &device);
            let (together, output) = logits(&model, ids.clone());
            for row in 0..4 {
                let (alone, alone_output) = logits(&model, ids.clone().narrow(0, row, 1));
                assert_eq!(
                    together[row * alone.len()..][..alone.len()],
                    alone,
                    "{set}, row {row}"
                );
                for (steps, alone) in output.steps.iter().zip(&alone_output.steps) {
                    assert_eq!(steps[row * alone.len()..][..alone.len()], alone[..]);
                }
            }
        }
    }
}

#[test]
fn an_adaptive_embedding_trains_the_bands_it_uses() {
    let device = Device::flex().autodiff();
    let mut config = common::config(CONVERSATIONAL);
    config.adaptive_embedding = Some(AdaptiveEmbedding {
        cutoffs: vec![10, 40],
        div_val: 2,
    });
    let model = build(&config, &device);
    let output = run(&model, ids([[1, 10, 38, 40]], &device));
    let loss = model.loss(output.hidden, ids([[3, 4, 5, 6]], &device), IGNORE);
    let gradients = model.take_gradients(&mut loss.expect("shapes").backward());
    let specs = config.tensors();
    for (band, used) in [(0, vec![1]), (1, vec![0, 28]), (2, vec![0])] {
        let name = format!("embed.emb_layers.{band}.weight");
        let at = specs.iter().position(|spec| spec.name == name);
        let at = at.expect("a band");
        let gradient = gradients[at].as_ref().expect("a gradient");
        let width = specs[at].shape[1];
        assert_eq!(width, 48 >> band);
        for (row, gradient) in gradient.chunks_exact(width).enumerate() {
            let moved = gradient.iter().any(|g| *g != 0.0);
            assert_eq!(moved, used.contains(&row), "{name}, row {row}");
        }
    }
}

/// Half precision has a range of 65,504: nothing on the way may leave it.
#[test]
fn half_precision_gives_numbers_close_to_full() {
    let device = Device::flex();
    for config in variants() {
        let mut config = config;
        config.routing.kind = mor_config::RouterKind::Adaptive;
        let model = build(&config, &device);
        let input = padded(&config, &device);
        let output = run(&model, input.clone());
        let full = values(model.logits(output.hidden.clone()));
        let half = model.cast(FloatDType::F16);
        let options = ForwardOptions::default();
        let half_output = half.forward(input, &options).expect("valid");
        let found = half.logits(half_output.hidden).cast(FloatDType::F32);
        let found = values(found);
        assert!(found.iter().all(|value| value.is_finite()), "{config:?}");
        if half_output.steps == output.steps {
            assert!(distance(&found, &full) < 0.05, "{config:?}");
        }
    }
}

#[test]
fn half_precision_attention_without_keys_is_zero() {
    let device = Device::flex().autodiff();
    let x = Tensor::<3>::ones([1, 3, 8], &device) * 40.0;
    let x = x.cast(FloatDType::F16).detach().require_grad();
    let mask = TensorData::new(vec![false, true, true], [1, 3]);
    let mask = Tensor::<2, Bool>::from_data(mask, &device);
    let y = ops::causal_attention(x.clone(), x.clone(), x.clone(), Some(mask), 2);
    let gradient = x.grad(&y.clone().sum().backward()).expect("a gradient");
    let gradient = values(gradient.cast(FloatDType::F32));
    assert!(gradient.iter().all(|value| value.is_finite()));
    let y = values(y.cast(FloatDType::F32));
    assert!(y[..8].iter().all(|value| *value == 0.0), "{y:?}");
    assert!(y[8..].iter().all(|value| *value == 40.0), "{y:?}");
}
