//! The original technical model's outputs for its own weights: logits to 1e-4, steps and ids exactly.

use std::path::Path;
use std::sync::Arc;

use crate::common::{self, assert_close, greedy, rows, steps};
use mor_config::{Depth, Weights};
use mor_engine::{DecodeOptions, Decoder, Isa, LoadOptions, Model};

const TOLERANCE: f32 = 1e-4;

fn golden(name: &str) -> Weights {
    common::golden("m1_learned", name)
}

fn model(isa: Isa) -> Arc<Model> {
    let options = LoadOptions {
        isa: Some(isa),
        ..LoadOptions::default()
    };
    common::golden_model("m1_learned", options)
}

fn decoder(isa: Isa, depth: Depth, threads: usize) -> Decoder {
    Decoder::new(
        model(isa),
        DecodeOptions {
            depth,
            threads,
            ..DecodeOptions::default()
        },
    )
    .expect("a decoder")
}

/// Runs one row whole, then token by token, and compares every position.
fn check_row(decoder: &mut Decoder, ids: &[u32], logits: &[f32], steps: &[u32], what: &str) {
    for portion in [ids.len(), 1, 3] {
        decoder.reset();
        for ids in ids.chunks(portion) {
            decoder.prefill(ids).expect("fits");
        }
        let what = format!("{what} in portions of {portion}");
        assert_eq!(common::steps(decoder), steps, "{what}");
        let all = common::all_logits(decoder);
        for (position, (actual, expected)) in all.iter().zip(logits.chunks_exact(97)).enumerate() {
            let what = format!("{what}, position {position}");
            assert_close(actual, expected, TOLERANCE, &what);
        }
        let last = &all[ids.len() - 1];
        assert_close(decoder.logits(), last, TOLERANCE, &what);
    }
}

#[test]
fn single_rows_match() {
    for isa in Isa::available() {
        for threads in [1, 2] {
            let mut decoder = decoder(isa, Depth::Configured, threads);
            for case in ["b1_len1", "b1_len7", "b1_len32"] {
                let file = golden(&format!("{case}.io"));
                let steps: Vec<u32> = rows(&file, "steps").concat();
                let logits = file.to_f32("logits").expect("logits");
                let what = format!("{case} on {}", isa.name());
                check_row(
                    &mut decoder,
                    &rows(&file, "input_ids")[0],
                    &logits,
                    &steps,
                    &what,
                );
                let probabilities = file.to_f32("router_probs").expect("probabilities");
                for (layer, expected) in probabilities.chunks_exact(5).enumerate() {
                    let actual = decoder.router_probabilities(layer);
                    assert_close(actual, expected, TOLERANCE, &what);
                }
            }
        }
    }
}

#[test]
fn rows_alone_match() {
    let file = golden("b4_len16_rows_alone.io");
    let steps = rows(&file, "steps_alone");
    let logits = file.to_f32("logits_alone").expect("logits");
    let mut decoder = decoder(Isa::available()[0], Depth::Configured, 1);
    for (row, ids) in rows(&golden("b4_len16.io"), "input_ids").iter().enumerate() {
        let steps: Vec<u32> = steps.iter().map(|layer| layer[row]).collect();
        let logits = &logits[row * 16 * 97..][..16 * 97];
        check_row(&mut decoder, ids, logits, &steps, &format!("row {row}"));
    }
}

#[test]
fn a_forced_depth_matches_the_fixed_router() {
    let file = golden("fixed4_b2_len9.io");
    let logits = file.to_f32("logits").expect("logits");
    for threads in [1, 2] {
        let mut decoder = decoder(Isa::available()[0], Depth::Forced(4), threads);
        for (row, ids) in rows(&file, "input_ids").iter().enumerate() {
            let logits = &logits[row * 9 * 97..][..9 * 97];
            check_row(&mut decoder, ids, logits, &[4, 4, 4], &format!("row {row}"));
        }
    }
}

#[test]
fn generation_matches_with_and_without_recomputing() {
    for isa in Isa::available() {
        for case in ["gen_depth_changes", "gen_steady"] {
            let file = golden(&format!("{case}.io"));
            let prompt = rows(&file, "prompt_ids").concat();
            let generated = rows(&file, "generated_ids").concat();
            let expected_steps = rows(&file, "steps_per_token");
            for recompute in [false, true] {
                let what = format!("{case} on {}, recompute {recompute}", isa.name());
                let mut decoder = decoder(isa, Depth::Configured, 1);
                let mut ids = prompt.clone();
                for (i, expected) in generated.iter().enumerate() {
                    let window = &ids[ids.len().saturating_sub(32)..];
                    if recompute {
                        decoder.reset();
                    }
                    decoder.set_context(window).expect("fits");
                    assert_eq!(steps(&decoder), expected_steps[i], "{what}, token {i}");
                    let id = greedy(&decoder);
                    assert_eq!(id, *expected, "{what}, token {i}");
                    ids.push(id);
                }
            }
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let model = model(Isa::Scalar);
    let depth = Depth::Forced(5);
    assert!(
        Decoder::new(
            Arc::clone(&model),
            DecodeOptions {
                depth,
                ..DecodeOptions::default()
            }
        )
        .is_err()
    );
    let mut decoder = Decoder::new(model, DecodeOptions::default()).expect("a decoder");
    assert!(decoder.prefill(&[]).is_err());
    assert!(decoder.push(97).is_err());
    assert!(decoder.prefill(&[1; 33]).is_err());
    decoder.prefill(&[1; 32]).expect("just fits");
    assert!(decoder.push(1).is_err());
    assert_eq!(decoder.ids().len(), 32);
    let nowhere = Model::load(Path::new("no/such/folder"))
        .expect_err("nothing there")
        .to_string();
    assert!(nowhere.contains("no/such/folder"), "{nowhere}");
}
