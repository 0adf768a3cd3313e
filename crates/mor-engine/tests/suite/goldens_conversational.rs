//! The original conversational model's outputs for its own weights: logits to 1e-4, steps and ids exactly.

use std::sync::Arc;

use crate::common::goldens::{END, GoldenRow, GoldenText, golden_rows, golden_texts};
use crate::common::{self, assert_close, golden, greedy, rows, steps};
use mor_config::Depth;
use mor_engine::{
    Context, DecodeOptions, Decoder, FinishReason, GenerateOptions, Generator, Isa, LoadOptions,
    Model, Overflow, Routing,
};
use pollster::block_on;

const TOLERANCE: f32 = 1e-4;

fn model(isa: Isa) -> Arc<Model> {
    let options = LoadOptions {
        isa: Some(isa),
        ..LoadOptions::default()
    };
    common::golden_model("m2", options)
}

fn decoder(isa: Isa, threads: usize) -> Decoder {
    let options = DecodeOptions {
        threads,
        ..DecodeOptions::default()
    };
    Decoder::new(model(isa), options).expect("a decoder")
}

/// Runs a row whole, then in portions, and compares every position.
fn check_row(decoder: &mut Decoder, row: &GoldenRow) {
    for portion in [row.ids.len(), 1, 3] {
        decoder.reset();
        for ids in row.ids.chunks(portion) {
            decoder.prefill(ids).expect("fits");
        }
        let what = format!("{} in portions of {portion}", row.what);
        assert_eq!(steps(decoder), row.steps, "{what}");
        let probabilities = &row.probabilities[0];
        assert_close(
            decoder.router_probabilities(0),
            probabilities,
            TOLERANCE,
            &what,
        );
        let all = common::all_logits(decoder);
        assert_eq!(all.len(), row.logits.len());
        for (position, (actual, expected)) in all.iter().zip(&row.logits).enumerate() {
            let what = format!("{what}, position {position}");
            assert_close(actual, expected, TOLERANCE, &what);
        }
        assert_eq!(decoder.logits(), all[all.len() - 1]);
    }
}

#[test]
fn every_row_matches_alone() {
    let rows = golden_rows("m2");
    for isa in Isa::available() {
        for threads in [1, 2] {
            let mut decoder = decoder(isa, threads);
            for row in &rows {
                check_row(&mut decoder, row);
            }
        }
    }
}

#[test]
fn the_future_leaks_through_the_original_pooling() {
    let mut decoder = decoder(Isa::available()[0], 1);
    let ids = rows(&golden("m2", "future_leak_pair.io"), "input_ids");
    assert_eq!(ids[0][..15], ids[1][..15]);
    let mut read = |ids: &Vec<u32>| {
        decoder.reset();
        decoder.prefill(ids).expect("fits");
        common::all_logits(&mut decoder)
    };
    let (first, second) = (read(&ids[0]), read(&ids[1]));
    for position in 0..15 {
        assert_ne!(first[position], second[position], "position {position}");
    }
}

fn generation(case: &str) -> GoldenText {
    let mut texts = golden_texts("m2").into_iter();
    texts
        .find(|text| text.what.ends_with(case))
        .expect("a case")
}

#[test]
fn generation_matches_with_and_without_recomputing() {
    for isa in Isa::available() {
        for text in golden_texts("m2") {
            for recompute in [false, true] {
                let what = format!("{} on {}, recompute {recompute}", text.what, isa.name());
                let mut decoder = decoder(isa, 1);
                let mut ids = text.prompt.clone();
                for (i, expected) in text.generated.iter().enumerate() {
                    if recompute {
                        decoder.reset();
                    }
                    decoder.set_context(&ids).expect("fits");
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
fn the_generator_stops_at_the_end_token() {
    let GoldenText {
        prompt,
        generated,
        steps: expected_steps,
        ..
    } = generation("gen_stops_at_eos");
    let options = GenerateOptions {
        max_new_tokens: 20,
        stop_ids: vec![END],
        overflow: Overflow::Slide,
        ..GenerateOptions::default()
    };
    let mut context = Context::from(decoder(Isa::available()[0], 1));
    let start = Generator::start(&mut context, &prompt, options);
    let mut generator = block_on(start).expect("starts");
    let mut made = Vec::new();
    while let Some(token) = block_on(generator.next_token(&mut context)).expect("runs") {
        let steps: Vec<u32> = token.steps.iter().map(|s| u32::from(*s)).collect();
        assert_eq!(steps, expected_steps[made.len()]);
        made.push(token.id);
    }
    let (end, before) = generated.split_last().expect("some ids");
    assert_eq!((*end, made.as_slice()), (END, before));
    assert_eq!(generator.finish_reason(), Some(FinishReason::Stop));
}

#[test]
fn a_locked_depth_is_the_prompts() {
    let text = generation("gen_depth_changes");
    let first = &text.steps[0];
    assert!(text.steps.iter().any(|steps| steps != first));
    let options = |routing, depth| DecodeOptions {
        depth,
        routing,
        threads: 1,
    };
    let model = model(Isa::available()[0]);
    let decoder = |options| Decoder::new(Arc::clone(&model), options).expect("a decoder");
    let mut locked = decoder(options(Routing::Locked, Depth::Configured));
    let depth = Depth::Forced(first[0] as usize);
    let mut forced = decoder(options(Routing::Live, depth));
    for decoder in [&mut locked, &mut forced] {
        decoder.set_context(&text.prompt).expect("fits");
    }
    for id in text.generated {
        assert_eq!(steps(&locked), *first);
        assert_eq!(locked.logits(), forced.logits());
        locked.push(id).expect("fits");
        forced.push(id).expect("fits");
    }
}
