//! Generating past the end of the context.

use std::sync::Arc;

use crate::common::devices::{Placed, on_every_device};
use crate::common::{self, greedy, one_thread, read, steps};
use mor_config::Pooling;
use mor_engine::{
    DecodeOptions, Decoder, EngineError, FinishReason, GenerateOptions, GeneratedToken, Generator,
    LoadOptions, Model, Overflow, Routing,
};
use pollster::block_on;
use safetensors::Dtype;

const CONTEXT: usize = 48;

fn generate(
    placed: &Placed,
    routing: Routing,
    overflow: Overflow,
    prompt: &[u32],
) -> (Vec<GeneratedToken>, Option<FinishReason>, usize) {
    let options = DecodeOptions {
        routing,
        ..one_thread()
    };
    let mut context = placed.context(options);
    let options = GenerateOptions {
        max_new_tokens: 70,
        overflow,
        ..GenerateOptions::default()
    };
    let start = Generator::start(&mut context, prompt, options);
    let mut generator = block_on(start).expect("starts");
    let tokens = block_on(generator.rest(&mut context)).expect("runs");
    (tokens, generator.finish_reason(), context.ids().len())
}

/// Recomputes the window that `cut` leaves of all ids for every token.
fn recompute(
    model: &Arc<Model>,
    prompt: &[u32],
    count: usize,
    mut cut: impl FnMut(&mut Vec<u32>),
) -> Vec<(u32, Vec<u32>)> {
    let mut ids = prompt.to_vec();
    let mut tokens = Vec::new();
    for _ in 0..count {
        cut(&mut ids);
        let decoder = read(model, one_thread(), &ids, ids.len());
        let id = greedy(&decoder);
        tokens.push((id, steps(&decoder)));
        ids.push(id);
    }
    tokens
}

fn check(tokens: &[GeneratedToken], expected: &[(u32, Vec<u32>)], what: &str) {
    assert_eq!(tokens.len(), expected.len(), "{what}");
    for (i, (token, (id, expected))) in tokens.iter().zip(expected).enumerate() {
        let steps: Vec<u32> = token.steps.iter().map(|step| u32::from(*step)).collect();
        assert_eq!((token.id, &steps), (*id, expected), "{what}, token {i}");
    }
}

#[test]
fn ids_equal_recomputation_past_the_context() {
    let prompt: Vec<u32> = (0..30).map(|i| (i * 23 + 9) % 61).collect();
    for config in common::routed_configs() {
        let (_, weights) = common::tensors(&config, Dtype::F32);
        let model = common::model(&config, Dtype::F32, LoadOptions::default());
        let slide = recompute(&model, &prompt, 70, |ids| {
            ids.drain(..ids.len().saturating_sub(CONTEXT));
        });
        let rewind = recompute(&model, &prompt, 70, |ids| {
            if ids.len() > CONTEXT {
                ids.drain(..CONTEXT / 2);
            }
        });
        for placed in on_every_device(&config, &weights) {
            let what = format!(
                "{:?} {:?} on {}",
                config.architecture, config.routing.pooling, placed.device
            );
            let (tokens, finish, _) = generate(&placed, Routing::Live, Overflow::Slide, &prompt);
            assert_eq!(finish, Some(FinishReason::Length));
            check(&tokens, &slide, &format!("{what}, slide"));

            let (tokens, _, len) = generate(&placed, Routing::Live, Overflow::Rewind, &prompt);
            check(&tokens, &rewind, &format!("{what}, rewind"));
            // 30 + 69 that were read; 24 dropped out each time it was full.
            assert_eq!(len, 99 - 3 * 24);

            let (tokens, finish, len) = generate(&placed, Routing::Live, Overflow::Stop, &prompt);
            assert_eq!((finish, len), (Some(FinishReason::Context), CONTEXT));
            check(&tokens, &slide[..19], &format!("{what}, stop"));
        }
    }
}

#[test]
fn a_locked_depth_outlives_the_window() {
    let prompt: Vec<u32> = (0..30).map(|i| (i * 23 + 9) % 61).collect();
    for config in common::routed_configs() {
        let (_, weights) = common::tensors(&config, Dtype::F32);
        for overflow in [Overflow::Slide, Overflow::Rewind] {
            let mut before: Option<Vec<(u32, Vec<u8>)>> = None;
            for placed in on_every_device(&config, &weights) {
                let (tokens, ..) = generate(&placed, Routing::Locked, overflow, &prompt);
                assert_eq!(tokens.len(), 70);
                assert!(tokens.iter().all(|token| token.steps == tokens[0].steps));
                let tokens: Vec<_> = tokens.into_iter().map(|t| (t.id, t.steps)).collect();
                // What one device writes, the other does.
                let before = before.get_or_insert_with(|| tokens.clone());
                assert_eq!(
                    *before, tokens,
                    "{config:?}, {overflow:?} on {}",
                    placed.device
                );
            }
        }
    }
}

#[test]
fn a_prompt_longer_than_the_context_is_an_error_and_one_as_long_is_not() {
    let prompt: Vec<u32> = (0..CONTEXT as u32 + 1).map(|i| (i * 23 + 9) % 61).collect();
    for config in common::routed_configs() {
        let (_, weights) = common::tensors(&config, Dtype::F32);
        for placed in on_every_device(&config, &weights) {
            for overflow in [Overflow::Slide, Overflow::Rewind, Overflow::Stop] {
                let mut context = placed.context(one_thread());
                let options = GenerateOptions {
                    overflow,
                    ..GenerateOptions::default()
                };
                let refused = block_on(Generator::start(&mut context, &prompt, options));
                let full = matches!(
                    refused,
                    Err(EngineError::ContextFull {
                        tokens: 49,
                        limit: CONTEXT
                    })
                );
                assert!(full, "{overflow:?} on {}", placed.device);
            }
            let fitting = generate(&placed, Routing::Live, Overflow::Rewind, &prompt[1..]);
            assert_eq!(fitting.0.len(), 70, "on {}", placed.device);
        }
    }
}

/// Every position takes every step once, however depth goes up and down.
#[test]
fn a_change_of_depth_costs_the_missing_steps_alone() {
    for pooling in [Pooling::Sequence, Pooling::Real, Pooling::Prefix] {
        let config = common::conversational(pooling);
        let model = common::model(&config, Dtype::F32, LoadOptions::default());
        let mut decoder = Decoder::new(Arc::clone(&model), one_thread()).expect("a decoder");
        // For each step of the shared block, how many positions have come to it.
        let mut taken = vec![0; config.routing.max_steps];
        let mut depths = Vec::new();
        for id in (0..CONTEXT).map(|i| (i * 23 + 9) as u32 % 61) {
            decoder.push(id).expect("fits");
            let (len, depth) = (decoder.ids().len(), usize::from(decoder.steps()[0]));
            for taken in &mut taken[..depth] {
                *taken = if pooling == Pooling::Prefix {
                    *taken + 1
                } else {
                    len
                };
            }
            depths.push(depth);
        }
        let base = config.num_hidden_layers * CONTEXT;
        let expected = base + taken.iter().sum::<usize>();
        assert_eq!(decoder.steps_computed(), expected as u64, "{pooling:?}");
        let falls = depths.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(falls > 1, "depth went up and down too little: {depths:?}");
    }
}
