//! Whether a later token changes earlier logits: the original pooling lets it, prefix pooling does not.

use std::collections::BTreeSet;

use crate::common::{self, CONVERSATIONAL, TECHNICAL, distance, ints, logits, open, run};
use burn::tensor::{Device, Int, Tensor, TensorData};
use mor_config::{Component, HaltedRows, ModelConfig, Pooling};
use mor_model::Model;

const SETS: [&str; 2] = [TECHNICAL, CONVERSATIONAL];
const VOCAB: usize = 97;
const SEQ: usize = 16;
/// Last ids, of which every model routes some to other depths.
const LASTS: [i64; 8] = [2, 9, 17, 33, 50, 61, 71, 90];

fn with_pooling(set: &str, pooling: Pooling) -> (ModelConfig, Model) {
    let mut config = common::config(set);
    config.routing.pooling = pooling;
    // What prefix pooling must not heed: renormalised positions would hear of deeper ones behind them.
    config.routing.halted_rows = HaltedRows::Renormalize;
    let model = common::model(set, &config, &Device::flex());
    (config, model)
}

/// Two rows of ids that differ in the last id only: the first ends in `LASTS[0]`, the second in `last`. The other ids
/// are some without pads, for the conversational model those of the golden pair.
fn pairs(set: &str, last: i64) -> Tensor<2, Int> {
    let mut ids: Vec<i64> = if set == CONVERSATIONAL {
        let pair = open(CONVERSATIONAL, "future_leak_pair.io");
        pair.to_i64("input_ids").expect("ids")
    } else {
        let at = (0..SEQ as i64).chain(0..SEQ as i64);
        at.map(|at| 1 + (at * at * 5 + at * 11) % 90).collect()
    };
    ids[SEQ - 1] = LASTS[0];
    ids[2 * SEQ - 1] = last;
    Tensor::from_data(TensorData::new(ids, [2, SEQ]), &Device::flex())
}

/// The largest difference between the two rows before their last position.
fn leak(logits: &[f32], seq: usize) -> f32 {
    let (first, second) = logits.split_at(seq * VOCAB);
    let before = (seq - 1) * VOCAB;
    distance(&first[..before], &second[..before])
}

#[test]
fn prefix_pooling_is_causal_to_the_bit() {
    for set in SETS {
        let (_, model) = with_pooling(set, Pooling::Prefix);
        let mut deepest_at_the_end = BTreeSet::new();
        for last in LASTS {
            let ids = pairs(set, last);
            let (together, output) = logits(&model, ids.clone());
            assert_eq!(leak(&together, SEQ), 0.0, "{set}: last id {last}");
            deepest_at_the_end.extend(output.steps.iter().map(|steps| steps[2 * SEQ - 1]));
            // Alone, so that not even the work on the other row is the same.
            let mut alone = logits(&model, ids.clone().narrow(0, 0, 1)).0;
            alone.extend(logits(&model, ids.narrow(0, 1, 1)).0);
            assert_eq!(leak(&alone, SEQ), 0.0, "{set}: last id {last}, alone");
        }
        // The last ids were routed differently, or this would show little.
        assert!(deepest_at_the_end.len() > 1, "{deepest_at_the_end:?}");
    }
}

/// Long enough for the kernels to divide the work, with rows that halt at different steps.
#[test]
fn prefix_pooling_is_causal_at_length() {
    const LONG: usize = 150;
    let device = Device::flex();
    for set in SETS {
        let mut config = common::config(set);
        config.hidden_size = 96;
        config.num_attention_heads = 3;
        config.intermediate_size = 200;
        config.max_position_embeddings = LONG;
        config.routing.pooling = Pooling::Prefix;
        let model = Model::new(&config, &device, 11).expect("valid");
        // Tables start small and routers undecided: nothing would be routed differently.
        let specs = config.tensors();
        let model = model.update(|parameter| {
            let scale = match specs[parameter.index].component {
                Component::TokenEmbedding => 50.0,
                Component::Routers => 3.0,
                _ => 1.0,
            };
            parameter
                .values
                .iter_mut()
                .for_each(|value| *value *= scale);
        });
        let run = |last: i64| {
            let ids = (0..3 * LONG as i64).map(|at| match at as usize % LONG + 1 {
                LONG => last,
                _ => 1 + (at * at * 31 + at * 7) % 90,
            });
            let ids = TensorData::new(ids.collect::<Vec<_>>(), [3, LONG]);
            logits(&model, Tensor::from_data(ids, &device))
        };
        let (first, output) = run(LASTS[0]);
        let depths: BTreeSet<_> = output.steps.iter().flatten().collect();
        assert!(depths.len() > 1, "{set}: {depths:?}");
        let width = LONG * VOCAB;
        for last in LASTS {
            let (other, _) = run(last);
            for (row, other) in other.chunks_exact(width).enumerate() {
                let before = width - VOCAB;
                let row = &first[row * width..][..before];
                assert_eq!(
                    distance(row, &other[..before]),
                    0.0,
                    "{set}: last id {last}"
                );
            }
        }
    }
}

#[test]
fn prefixes_and_whole_sequences_agree() {
    // Another number of positions is another order of work, so rounding may differ.
    for set in SETS {
        let (_, model) = with_pooling(set, Pooling::Prefix);
        let ids = pairs(set, LASTS[0]).narrow(0, 0, 1);
        let (whole, output) = logits(&model, ids.clone());
        for len in [1, 2, 7, SEQ - 1] {
            let (prefix, prefix_output) = logits(&model, ids.clone().narrow(1, 0, len));
            for (layer, steps) in prefix_output.steps.iter().enumerate() {
                assert_eq!(steps[..], output.steps[layer][..len], "{set}");
            }
            let worst = distance(&prefix, &whole[..len * VOCAB]);
            assert!(worst < 2e-5, "{set}: {len} positions differ by {worst}");
        }
    }
}

#[test]
fn prefix_pooling_gives_positions_depths_of_their_own() {
    for set in SETS {
        let (config, model) = with_pooling(set, Pooling::Prefix);
        let mut varied = false;
        for last in LASTS {
            let output = run(&model, pairs(set, last));
            assert_eq!(output.steps.len(), config.routed_depths(), "{set}");
            for steps in &output.steps {
                assert_eq!(steps.len(), 2 * SEQ);
                varied |= steps[SEQ..].iter().any(|depth| *depth != steps[SEQ]);
            }
        }
        assert!(varied, "{set}");
        let output = run(&model, pairs(set, LASTS[0]));
        let classes = config.routing.steps_of_classes().len();
        for logits in &output.router_logits {
            assert_eq!(logits.dims(), [2, SEQ, classes]);
        }
    }
}

/// At its last position a prefix is the whole sequence: the two poolings then choose the same depth there, as long
/// as the routers see the same inputs, which holds for the first of them.
#[test]
fn prefix_pooling_ends_where_whole_pooling_does() {
    for set in SETS {
        let (_, prefix) = with_pooling(set, Pooling::Prefix);
        let (_, real) = with_pooling(set, Pooling::Real);
        for last in LASTS {
            let ids = pairs(set, last);
            let (prefix, real) = (run(&prefix, ids.clone()), run(&real, ids));
            for row in 0..2 {
                assert_eq!(
                    prefix.steps[0][(row + 1) * SEQ - 1],
                    real.steps[0][row],
                    "{set}"
                );
            }
        }
    }
}

#[test]
fn the_original_pooling_leaks() {
    let device = Device::flex();
    let io = open(CONVERSATIONAL, "future_leak_pair.io");
    let ids = ints(&io, "input_ids", &device);
    let model = common::model(CONVERSATIONAL, &common::config(CONVERSATIONAL), &device);
    let (found, output) = logits(&model, ids.clone());
    assert_eq!(output.steps, [vec![1, 5]]);
    assert!(leak(&found, SEQ) > 0.1, "{}", leak(&found, SEQ));
    // The same pair under prefix pooling.
    let (_, causal) = with_pooling(CONVERSATIONAL, Pooling::Prefix);
    assert_eq!(leak(&logits(&causal, ids).0, SEQ), 0.0);

    let mut config = common::config(TECHNICAL);
    config.routing.halted_rows = HaltedRows::Freeze;
    let model = common::model(TECHNICAL, &config, &device);
    let leaks = LASTS.map(|last| leak(&logits(&model, pairs(TECHNICAL, last)).0, SEQ));
    assert!(leaks.iter().any(|leak| *leak > 0.1), "{leaks:?}");
}
