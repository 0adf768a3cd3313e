//! The original technical model's outputs for its own weights: logits to 1e-4, steps and ids exactly.

use std::path::Path;
use std::sync::Arc;

use crate::common::goldens::{GoldenRow, golden_rows, golden_texts};
use crate::common::{self, assert_close, greedy, steps};
use mor_config::Depth;
use mor_engine::{DecodeOptions, Decoder, Isa, LoadOptions, Model};

const TOLERANCE: f32 = 1e-4;

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

/// Runs one row whole, then in portions, and compares every position.
fn check_row(decoder: &mut Decoder, row: &GoldenRow, isa: Isa) {
    for portion in [row.ids.len(), 1, 3] {
        decoder.reset();
        for ids in row.ids.chunks(portion) {
            decoder.prefill(ids).expect("fits");
        }
        let what = format!("{} in portions of {portion} on {}", row.what, isa.name());
        assert_eq!(steps(decoder), row.steps, "{what}");
        for (router, expected) in row.probabilities.iter().enumerate() {
            let actual = decoder.router_probabilities(router);
            assert_close(actual, expected, TOLERANCE, &what);
        }
        let all = common::all_logits(decoder);
        assert_eq!(all.len(), row.logits.len());
        for (position, (actual, expected)) in all.iter().zip(&row.logits).enumerate() {
            let what = format!("{what}, position {position}");
            assert_close(actual, expected, TOLERANCE, &what);
        }
        assert_close(decoder.logits(), &all[all.len() - 1], TOLERANCE, &what);
    }
}

#[test]
fn every_row_matches_alone() {
    let rows = golden_rows("m1_learned");
    for isa in Isa::available() {
        for threads in [1, 2] {
            for depth in [Depth::Configured, Depth::Forced(4)] {
                let mut decoder = decoder(isa, depth, threads);
                for row in rows.iter().filter(|row| row.depth == depth) {
                    check_row(&mut decoder, row, isa);
                }
            }
        }
    }
}

#[test]
fn generation_matches_with_and_without_recomputing() {
    for isa in Isa::available() {
        for text in golden_texts("m1_learned") {
            for recompute in [false, true] {
                let what = format!("{} on {}, recompute {recompute}", text.what, isa.name());
                let mut decoder = decoder(isa, Depth::Configured, 1);
                let mut ids = text.prompt.clone();
                for (i, expected) in text.generated.iter().enumerate() {
                    let window = &ids[ids.len().saturating_sub(text.window)..];
                    if recompute {
                        decoder.reset();
                    }
                    decoder.set_context(window).expect("fits");
                    assert_eq!(steps(&decoder), text.steps[i], "{what}, token {i}");
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
