//! Against a plain f64 forward pass: both families, every kind of position, embedding, pooling and depth, f16
//! weights, portions and threads.

use std::sync::Arc;

use crate::common;
use crate::common::plain::Plain;
use mor_config::{
    AdaptiveEmbedding, Depth, HaltedRows, ModelConfig, Pooling, Positions, RouterKind,
};
use mor_engine::{DecodeOptions, LoadOptions, Model, WeightPrecision};
use safetensors::Dtype;

/// With pads in the middle, which later positions must not see.
fn ids() -> Vec<u32> {
    (0..45)
        .map(|i| if i % 11 == 7 { 0 } else { (i * 17 + 3) % 61 })
        .collect()
}

/// Compares logits and steps of every position, in several settings. Returns the steps.
fn compare(config: &ModelConfig, dtype: Dtype, ids: &[u32], depth: Depth) -> Vec<Vec<usize>> {
    let (named, weights) = common::tensors(config, dtype);
    let plain = Plain {
        config,
        tensors: &named,
    };
    let forced = config.resolve_depth(depth).expect("a depth it has");
    let expected = plain.forward(ids, forced);
    assert!(
        expected.margin > 1e-4,
        "a decision near a tie: {}",
        expected.margin
    );
    for (precision, threads, portion) in [
        (WeightPrecision::AsStored, 1, ids.len()),
        (WeightPrecision::F32, 2, 7),
        (WeightPrecision::F16, 1, 1),
    ] {
        let options = LoadOptions {
            precision,
            ..LoadOptions::default()
        };
        let model = Model::from_parts_with(config.clone(), &weights, options);
        let model = Arc::new(model.expect("a model"));
        let options = DecodeOptions {
            depth,
            threads,
            ..DecodeOptions::default()
        };
        let mut decoder = common::read(&model, options, ids, portion);
        let what = format!(
            "{:?} {:?} {:?} {depth:?}, portions of {portion}",
            config.architecture, config.positions, config.routing.pooling
        );
        let mut last = Vec::new();
        for (position, expected_row) in expected.logits.iter().enumerate() {
            last = decoder.steps_at(position).map(usize::from).collect();
            let steps: Vec<usize> = expected.steps.iter().map(|layer| layer[position]).collect();
            assert_eq!(last, steps, "{what}, position {position}");
            let mut row = vec![0.0; config.vocab_size];
            decoder.logits_at(position, &mut row).expect("a position");
            for (a, e) in row.iter().zip(expected_row) {
                assert!(
                    (f64::from(*a) - e).abs() < 1e-4,
                    "{what}, position {position}: {a}, not {e}"
                );
            }
        }
        let steps: Vec<usize> = decoder.steps().iter().map(|s| usize::from(*s)).collect();
        assert_eq!(steps, last, "{what}");
    }
    expected.steps
}

/// Without routers, `depth` steps at most.
fn fixed(mut config: ModelConfig) -> ModelConfig {
    config.routing.kind = RouterKind::Fixed;
    config.routing.halted_rows = HaltedRows::Freeze;
    config
}

#[test]
fn fixed_depths_match() {
    let all = [Positions::Rotary, Positions::Sinusoidal, Positions::Learned];
    let mut configs: Vec<_> = all
        .into_iter()
        .map(|positions| common::technical(positions, Pooling::Sequence))
        .collect();
    configs.push(common::conversational(Pooling::Real));
    for config in configs {
        for (tied, dtype) in [(true, Dtype::F16), (false, Dtype::F32)] {
            let config = ModelConfig {
                tie_word_embeddings: tied,
                ..fixed(config.clone())
            };
            for depth in [0, 1, 3] {
                compare(&config, dtype, &ids(), Depth::Forced(depth));
            }
        }
    }
}

#[test]
fn adaptive_embeddings_match() {
    for config in [
        common::technical(Positions::Learned, Pooling::Sequence),
        common::conversational(Pooling::Real),
    ] {
        let config = ModelConfig {
            adaptive_embedding: Some(AdaptiveEmbedding {
                cutoffs: vec![5, 33],
                div_val: 3,
            }),
            ..fixed(config)
        };
        for dtype in [Dtype::F16, Dtype::F32] {
            compare(&config, dtype, &ids(), Depth::Forced(2));
        }
    }
}

#[test]
fn routed_depths_match() {
    for config in common::routed_configs() {
        // Also where the context begins with pads, which nobody's mean has anything to say about.
        let mut led_by_pads = ids();
        led_by_pads[..3].fill(0);
        for ids in [ids(), ids()[..20].to_vec(), led_by_pads] {
            let steps = compare(&config, Dtype::F16, &ids, Depth::Configured);
            if config.routing.pooling == Pooling::Prefix {
                let varied = |steps: &Vec<usize>| steps.iter().any(|n| *n != steps[0]);
                assert!(steps.iter().any(varied), "one depth everywhere: {steps:?}");
            }
            compare(&config, Dtype::F32, &ids, Depth::Forced(2));
        }
    }
}
