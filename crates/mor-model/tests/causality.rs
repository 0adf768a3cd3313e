//! Whether a later token changes earlier logits: the original pooling lets it, prefix pooling does not.

mod common;

use burn::tensor::{Device, Int, Tensor, TensorData};
use common::{CONVERSATIONAL, TECHNICAL, distance, ints, logits, open, run};
use mor_config::{HaltedRows, ModelConfig, Pooling};
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
/// are those of the golden pair, which no model takes for pads.
fn pairs(last: i64) -> Tensor<2, Int> {
    let ids = open(CONVERSATIONAL, "future_leak_pair.io").to_i64("input_ids");
    let mut ids = ids.expect("ids");
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
        let mut deepest_at_the_end = std::collections::BTreeSet::new();
        for last in LASTS {
            let ids = pairs(last);
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

#[test]
fn prefixes_and_whole_sequences_agree() {
    // Another number of positions is another order of work, so rounding may differ.
    for set in SETS {
        let (_, model) = with_pooling(set, Pooling::Prefix);
        let ids = pairs(LASTS[0]).narrow(0, 0, 1);
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
        let output = run(&model, pairs(LASTS[0]));
        assert_eq!(output.steps.len(), config.routed_depths(), "{set}");
        for steps in &output.steps {
            assert_eq!(steps.len(), 2 * SEQ);
        }
        let varied = output
            .steps
            .iter()
            .any(|steps| steps[..SEQ].iter().any(|s| *s != steps[0]));
        assert!(varied, "{set}: {:?}", output.steps);
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
            let ids = pairs(last);
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
    let leaks = LASTS.map(|last| leak(&logits(&model, pairs(last)).0, SEQ));
    assert!(leaks.iter().any(|leak| *leak > 0.1), "{leaks:?}");
}
