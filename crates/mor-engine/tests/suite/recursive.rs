//! The recursive model against its formulas in f64: logits and loops of every position, for each rule of what halted
//! positions leave, however a text is cut and whoever decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common;
use mor_config::{Budget, Depth, LoopKeys, ModelConfig};
use mor_engine::{DecodeOptions, Decoder, LoadOptions, Model, WeightPrecision};
use mor_goldens::{Loops, random_weights, recursive, run_recursive};
use safetensors::Dtype;

const KINDS: [LoopKeys; 2] = [LoopKeys::Deepest, LoopKeys::Active];

/// With pads in the middle, which later positions must not see.
fn ids() -> Vec<u32> {
    (0..40)
        .map(|i| if i % 11 == 7 { 0 } else { (i * 17 + 3) % 61 })
        .collect()
}

fn model(config: &ModelConfig, dtype: Dtype, precision: WeightPrecision) -> Arc<Model> {
    let (_, weights) = random_weights(config, dtype).expect("valid");
    let options = LoadOptions {
        precision,
        ..LoadOptions::default()
    };
    let model = Model::from_parts_with(config.clone(), &weights, options);
    Arc::new(model.expect("a model"))
}

fn options(depth: Depth) -> DecodeOptions {
    DecodeOptions {
        depth,
        ..DecodeOptions::default()
    }
}

/// Compares logits and loops of every position. Returns the loops.
fn compare(config: &ModelConfig, depth: Depth) -> Vec<usize> {
    let ids = ids();
    let (named, _) = random_weights(config, Dtype::F16).expect("valid");
    let given;
    let loops = match depth {
        Depth::Forced(depth) => {
            given = vec![depth; ids.len()];
            Loops::Given(&given)
        }
        _ => Loops::Gated(f64::from(config.gate_threshold(depth))),
    };
    let expected = run_recursive(config, &named, &ids, loops);
    assert!(
        expected.margin > 1e-4,
        "a close decision: {}",
        expected.margin
    );
    let kv = config.routing.kv;
    for (precision, threads, portion) in [
        (WeightPrecision::AsStored, 1, ids.len()),
        (WeightPrecision::F32, 2, 7),
        (WeightPrecision::F16, 1, 1),
    ] {
        let model = model(config, Dtype::F16, precision);
        let options = DecodeOptions {
            threads,
            ..options(depth)
        };
        let mut decoder = common::read(&model, options, &ids, portion);
        let what = format!("{kv:?}, {depth:?}, portions of {portion}");
        let mut logits = vec![0.0; config.vocab_size];
        for (position, expected_row) in expected.logits.iter().enumerate() {
            let steps: Vec<u8> = decoder.steps_at(position).collect();
            let taken = expected.depths[position];
            assert_eq!(steps, [taken as u8], "{what}, position {position}");
            decoder.logits_at(position, &mut logits).expect("there");
            let apart = logits.iter().zip(expected_row);
            let apart = apart.map(|(x, e)| (f64::from(*x) - e).abs());
            let apart = apart.fold(0.0, f64::max);
            assert!(apart < 1e-4, "{what}, position {position}: {apart}");
        }
        // The last of them is what a decoder says by itself.
        assert_eq!(decoder.steps(), [expected.depths[ids.len() - 1] as u8]);
    }
    expected.depths
}

#[test]
fn gates_decide_as_the_formulas_say() {
    for kv in KINDS {
        let config = recursive(kv);
        let deep = Depth::Budget(Budget::beyond_one(14));
        let depths = [Depth::Configured, deep].map(|depth| compare(&config, depth));
        let depths: BTreeSet<usize> = depths.into_iter().flatten().collect();
        assert_eq!(depths, BTreeSet::from([1, 2, 3]), "{kv:?}");
    }
}

#[test]
fn depths_can_be_forced() {
    for depth in 1..=3 {
        compare(&recursive(LoopKeys::Deepest), Depth::Forced(depth));
    }
}

#[test]
fn a_larger_budget_is_spent() {
    let config = recursive(LoopKeys::Deepest);
    let spent = |tenths| {
        let depths = compare(&config, Depth::Budget(Budget::beyond_one(tenths)));
        depths.iter().sum::<usize>()
    };
    let spent: Vec<usize> = [0, 6, 14, 20].map(spent).into();
    assert!(spent.is_sorted() && spent[1] < spent[2], "{spent:?}");
    assert_eq!((spent[0], spent[3]), (40, 120));
}

#[test]
fn what_a_model_cannot_do_is_refused() {
    let config = recursive(LoopKeys::Deepest);
    let model = model(&config, Dtype::F32, WeightPrecision::AsStored);
    let refused = |depth| {
        let error = Decoder::new(Arc::clone(&model), options(depth)).expect_err("refused");
        error.to_string()
    };
    assert!(refused(Depth::Forced(0)).contains("at least one loop"));
    assert!(refused(Depth::Forced(4)).contains("at most 3"));
    let error = refused(Depth::Budget(Budget::beyond_one(21)));
    assert!(error.contains("from 1 to 3 loops"), "{error}");
}

#[test]
fn the_last_token_changes_nothing_before_it_to_the_bit() {
    for kv in KINDS {
        let config = recursive(kv);
        let model = model(&config, Dtype::F32, WeightPrecision::AsStored);
        let read = |last: u32| {
            let mut ids = ids();
            *ids.last_mut().expect("some") = last;
            let mut decoder = common::read(&model, options(Depth::Configured), &ids, ids.len());
            let mut all = Vec::new();
            let mut logits = vec![0.0; config.vocab_size];
            for position in 0..ids.len() - 1 {
                decoder.logits_at(position, &mut logits).expect("there");
                all.extend_from_slice(&logits);
            }
            (all, decoder.steps().to_vec())
        };
        let (expected, steps) = read(1);
        let mut ends = BTreeSet::from([steps]);
        for last in [2, 17, 30, 44, 59] {
            let (found, steps) = read(last);
            assert!(found == expected, "{kv:?}: {last} changed something");
            ends.insert(steps);
        }
        assert!(ends.len() > 1, "the last tokens all took as many loops");
    }
}

#[test]
fn what_is_reused_is_what_would_be_computed() {
    for kv in KINDS {
        let config = recursive(kv);
        let model = model(&config, Dtype::F32, WeightPrecision::AsStored);
        let ids = ids();
        let mut other = ids.clone();
        other.truncate(25);
        other.extend([9, 8, 7, 50, 51]);
        let fresh = common::read(&model, options(Depth::Configured), &other, 30);
        let mut reused = common::read(&model, options(Depth::Configured), &ids, 40);
        let before = reused.steps_computed();
        reused.set_context(&other).expect("fits");
        let apart = reused.logits().iter().zip(fresh.logits());
        let apart = apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-4, "{kv:?}: {apart}");
        assert_eq!(reused.steps(), fresh.steps());
        // Five positions in six layers at most, and not thirty.
        assert!(reused.steps_computed() - before <= 5 * (2 + 2 * 3));
    }
}
