//! Whether later tokens change what came out for earlier ones: never, to the bit, where routers pool over the
//! prefix; where they pool over everything, as the originals do, they do.

use crate::common::{self, one_thread};
use mor_config::{ModelConfig, Pooling};
use mor_engine::{Isa, LoadOptions};
use safetensors::Dtype;

const LEN: usize = 39;

fn ids(last: u32) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..LEN as u32 - 1)
        .map(|i| (i * i * 5 + i * 17 + 3) % 61)
        .collect();
    ids.push(last);
    ids
}

type Bits = Vec<Vec<u32>>;

/// The bits of every position's logits, and its steps.
fn run(config: &ModelConfig, isa: Isa, ids: &[u32], portion: usize) -> (Bits, Vec<Vec<u8>>) {
    let options = LoadOptions {
        isa: Some(isa),
        ..LoadOptions::default()
    };
    let model = common::model(config, Dtype::F16, options);
    let mut decoder = common::read(&model, one_thread(), ids, portion);
    let logits = common::all_logits(&mut decoder);
    let bits = |row: &Vec<f32>| row.iter().map(|x| x.to_bits()).collect();
    let steps = (0..ids.len()).map(|p| decoder.steps_at(p).collect());
    (logits.iter().map(bits).collect(), steps.collect())
}

fn pooled(pooling: Pooling) -> impl Iterator<Item = ModelConfig> {
    common::routed_configs()
        .into_iter()
        .filter(move |config| config.routing.pooling == pooling)
}

#[test]
fn with_prefix_pooling_a_later_token_changes_nothing() {
    for config in pooled(Pooling::Prefix) {
        for isa in Isa::available() {
            // Whole, in portions, and token by token.
            for portion in [LEN, 5, 1] {
                let (expected, _) = run(&config, isa, &ids(7), portion);
                for last in [0, 8, 23, 60] {
                    let (actual, _) = run(&config, isa, &ids(last), portion);
                    let what = format!("{:?} on {}", config.architecture, isa.name());
                    assert!(
                        actual[..LEN - 1] == expected[..LEN - 1],
                        "{what}, {portion}"
                    );
                    assert!(actual[LEN - 1] != expected[LEN - 1], "{what}: all the same");
                }
            }
        }
    }
}

/// A product sums in one order for one row and in another for several, so a portion of one token is the
/// exception.
#[test]
fn with_prefix_pooling_prompts_of_any_length_agree_to_the_bit() {
    for config in pooled(Pooling::Prefix) {
        for isa in Isa::available() {
            let ids = ids(7);
            let (expected, steps) = run(&config, isa, &ids, LEN);
            for len in [2, 3, 10, 31, 32, 33, 34, 38] {
                let (actual, _) = run(&config, isa, &ids[..len], len);
                assert!(actual[..] == expected[..len], "{} long", len);
            }
            // 39 is 13 portions of 3, and 3 of 12 with a rest of 3.
            for portion in [3, 12] {
                let (actual, actual_steps) = run(&config, isa, &ids, portion);
                assert!(actual == expected, "portions of {portion}");
                assert_eq!(actual_steps, steps);
            }
        }
    }
}

#[test]
fn with_the_originals_pooling_the_last_token_changes_earlier_ones() {
    for config in pooled(Pooling::Sequence).chain(pooled(Pooling::Real)) {
        let isa = Isa::available()[0];
        // Few tokens, so that one of them weighs something in the mean.
        let ids = |last| ids(last).split_off(LEN - 9);
        let (before, steps) = run(&config, isa, &ids(7), 9);
        let leaks = (1..61).any(|last| {
            let (after, other) = run(&config, isa, &ids(last), 9);
            let changed = (0..8).filter(|p| after[*p] != before[*p]).count();
            // Through the depth and in no other way.
            assert_eq!(changed > 0, steps[0] != other[0]);
            changed == 8
        });
        assert!(
            leaks,
            "{:?} {:?}",
            config.architecture, config.routing.pooling
        );
    }
}
