//! The original conversational model's outputs for its own weights: logits to 1e-4, steps and ids exactly.

use std::sync::Arc;

use crate::common::{self, assert_close, golden, greedy, rows, steps};
use mor_config::Depth;
use mor_engine::{
    Context, DecodeOptions, Decoder, FinishReason, GenerateOptions, Generator, Isa, LoadOptions,
    Model, Overflow, Routing,
};
use pollster::block_on;

const TOLERANCE: f32 = 1e-4;
const VOCAB: usize = 97;
const END: u32 = 95;

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

/// Runs every row of a case alone, in portions, and compares every position.
fn check(decoder: &mut Decoder, case: &str) {
    let file = golden("m2", &format!("{case}.io"));
    let ids = rows(&file, "input_ids");
    let expected_steps = rows(&file, "steps");
    let logits = file.to_f32("logits").expect("logits");
    let logits = logits.chunks_exact(ids[0].len() * VOCAB);
    let router = file.to_f32("router_logits").expect("router logits");
    let router = router.chunks_exact(3);
    let expected = logits.zip(router);
    for (row, ((ids, expected_steps), (logits, router))) in
        ids.iter().zip(&expected_steps).zip(expected).enumerate()
    {
        for portion in [ids.len(), 1, 3] {
            decoder.reset();
            for ids in ids.chunks(portion) {
                decoder.prefill(ids).expect("fits");
            }
            let what = format!("{case}, row {row} in portions of {portion}");
            assert_eq!(steps(decoder), *expected_steps, "{what}");
            let total: f32 = router.iter().map(|x| x.exp()).sum();
            let probabilities: Vec<f32> = router.iter().map(|x| x.exp() / total).collect();
            let actual = decoder.router_probabilities(0);
            assert_close(actual, &probabilities, TOLERANCE, &what);
            let all = common::all_logits(decoder);
            for (position, (actual, expected)) in
                all.iter().zip(logits.chunks_exact(VOCAB)).enumerate()
            {
                let what = format!("{what}, position {position}");
                assert_close(actual, expected, TOLERANCE, &what);
            }
            assert_eq!(decoder.logits(), all[all.len() - 1]);
        }
    }
}

#[test]
fn every_row_matches_alone() {
    for isa in Isa::available() {
        for threads in [1, 2] {
            let mut decoder = decoder(isa, threads);
            for case in [
                "b1_len1",
                "b1_len32",
                "b4_len16",
                "b4_rightpad",
                "b4_rightpad_loss",
            ] {
                check(&mut decoder, case);
            }
        }
    }
}

#[test]
fn the_future_leaks_through_the_original_pooling() {
    let mut decoder = decoder(Isa::available()[0], 1);
    check(&mut decoder, "future_leak_pair");
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

fn generation(case: &str) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let file = golden("m2", &format!("{case}.io"));
    (
        rows(&file, "prompt_ids").concat(),
        rows(&file, "generated_ids").concat(),
        rows(&file, "steps_per_token").concat(),
    )
}

#[test]
fn generation_matches_with_and_without_recomputing() {
    for isa in Isa::available() {
        for case in ["gen_depth_changes", "gen_steady", "gen_stops_at_eos"] {
            let (prompt, generated, expected_steps) = generation(case);
            for recompute in [false, true] {
                let what = format!("{case} on {}, recompute {recompute}", isa.name());
                let mut decoder = decoder(isa, 1);
                let mut ids = prompt.clone();
                for (i, expected) in generated.iter().enumerate() {
                    if recompute {
                        decoder.reset();
                    }
                    decoder.set_context(&ids).expect("fits");
                    assert_eq!(steps(&decoder), [expected_steps[i]], "{what}, token {i}");
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
    let (prompt, generated, expected_steps) = generation("gen_stops_at_eos");
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
        let expected = expected_steps[made.len()];
        assert_eq!(
            token.steps.iter().map(|s| u32::from(*s)).sum::<u32>(),
            expected
        );
        made.push(token.id);
    }
    let (end, before) = generated.split_last().expect("some ids");
    assert_eq!((*end, made.as_slice()), (END, before));
    assert_eq!(generator.finish_reason(), Some(FinishReason::Stop));
}

#[test]
fn a_locked_depth_is_the_prompts() {
    let (prompt, generated, expected_steps) = generation("gen_depth_changes");
    assert!(
        expected_steps
            .iter()
            .any(|steps| *steps != expected_steps[0])
    );
    let options = |routing, depth| DecodeOptions {
        depth,
        routing,
        threads: 1,
    };
    let model = model(Isa::available()[0]);
    let decoder = |options| Decoder::new(Arc::clone(&model), options).expect("a decoder");
    let mut locked = decoder(options(Routing::Locked, Depth::Configured));
    let depth = Depth::Forced(expected_steps[0] as usize);
    let mut forced = decoder(options(Routing::Live, depth));
    for decoder in [&mut locked, &mut forced] {
        decoder.set_context(&prompt).expect("fits");
    }
    for id in generated {
        assert_eq!(steps(&locked), [expected_steps[0]]);
        assert_eq!(locked.logits(), forced.logits());
        locked.push(id).expect("fits");
        forced.push(id).expect("fits");
    }
}
