//! A context may be lost at any time: another one takes its place, and the text is the same.

use std::path::Path;
use std::sync::Arc;

use crate::common::{self, one_thread};
use mor_config::{Pooling, Preset};
use mor_engine::{
    ChatOptions, ChatSession, Context, DecodeOptions, Decoder, EngineError, GenerateOptions,
    GeneratedToken, Generator, LoadOptions, Model, Overflow, Reply, Routing, SamplingOptions,
};
use mor_text::Tokenizer;
use pollster::block_on;
use safetensors::Dtype;

const ANSWER: usize = 24;

fn context(model: &Arc<Model>, routing: Routing) -> Context {
    let options = DecodeOptions {
        routing,
        ..one_thread()
    };
    let decoder = Decoder::new(Arc::clone(model), options);
    decoder.expect("a decoder").into()
}

/// Whatever routers decide and however the context slides, when each token is made by a fresh context.
#[test]
fn every_token_may_come_from_another_context() {
    let prompt: Vec<u32> = (0..30).map(|i| (i * 23 + 9) % 61).collect();
    for config in common::routed_configs() {
        let model = common::model(&config, Dtype::F32, LoadOptions::default());
        for routing in [Routing::Live, Routing::Locked] {
            for overflow in [Overflow::Slide, Overflow::Rewind] {
                let generate = |replaced: bool| -> Vec<GeneratedToken> {
                    let mut context = self::context(&model, routing);
                    let options = GenerateOptions {
                        max_new_tokens: 40,
                        overflow,
                        ..GenerateOptions::default()
                    };
                    let start = Generator::start(&mut context, &prompt, options);
                    let mut generator = block_on(start).expect("starts");
                    let mut tokens = Vec::new();
                    while let Some(token) =
                        block_on(generator.next_token(&mut context)).expect("runs")
                    {
                        tokens.push(token);
                        if replaced {
                            context = self::context(&model, routing);
                        }
                    }
                    tokens
                };
                let (whole, pieced) = (generate(false), generate(true));
                assert_eq!(whole.len(), 40);
                for (i, (a, b)) in whole.iter().zip(&pieced).enumerate() {
                    let pooling = config.routing.pooling;
                    assert_eq!(
                        (a.id, &a.steps),
                        (b.id, &b.steps),
                        "{pooling:?}, {routing:?}, {overflow:?}, token {i}"
                    );
                }
            }
        }
    }
}

fn tokenizer() -> Arc<Tokenizer> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer");
    Arc::new(Tokenizer::from_dir(&dir).expect("the sample tokenizer"))
}

fn model(vocab_size: usize, seed: u64) -> Arc<Model> {
    let mut config = Preset::TechnicalCard.config();
    config.routing.pooling = Pooling::Sequence;
    config.vocab_size = vocab_size;
    config.hidden_size = 48;
    config.num_hidden_layers = 2;
    config.intermediate_size = 64;
    config.max_position_embeddings = 96;
    Arc::new(Model::random(config, seed, LoadOptions::default()).expect("a model"))
}

/// An answer in which `disturb` has its way before each token, and at the end.
fn answer(
    model: &Arc<Model>,
    temperature: f32,
    mut disturb: impl FnMut(&mut ChatSession, usize),
) -> (Vec<u32>, String, Reply) {
    let live = || context(model, Routing::Live);
    let mut session = ChatSession::new(live(), tokenizer()).expect("a session");
    let options = ChatOptions {
        sampling: SamplingOptions {
            temperature,
            top_k: 40,
            repetition_penalty: 1.2,
            seed: 2,
            ..SamplingOptions::default()
        },
        max_new_tokens: ANSWER,
        overflow: Overflow::Stop,
    };
    block_on(session.ask("list files", options)).expect("fits");
    let (mut ids, mut text) = (Vec::new(), String::new());
    loop {
        disturb(&mut session, ids.len());
        let Some(piece) = block_on(session.next_piece()).expect("runs") else {
            return (ids, text, session.stop());
        };
        ids.push(piece.id);
        text += &piece.text;
    }
}

#[test]
fn an_answer_goes_on_in_another_context() {
    // Random weights whose answers do not end early.
    let mut models = (0..50).map(|seed| model(tokenizer().vocab_size(), seed));
    let long = |temperature, model: &_| answer(model, temperature, |_, _| {}).0.len() == ANSWER;
    let model = models
        .find(|model| long(0.0, model) && long(0.9, model))
        .expect("long answers");
    // Does not know the tokens of the conversation, so whatever it is asked fails.
    let ignorant = self::model(16, 9);
    for temperature in [0.0, 0.9] {
        let undisturbed = answer(&model, temperature, |_, _| {});
        for lost in 0..=ANSWER {
            let replaced = answer(&model, temperature, |session, token| {
                if token == lost {
                    session.replace_context(context(&model, Routing::Live));
                }
            });
            assert_eq!(replaced, undisturbed, "replaced before token {lost}");

            let failed = answer(&model, temperature, |session, token| {
                if token != lost {
                    return;
                }
                session.replace_context(context(&ignorant, Routing::Live));
                for _ in 0..2 {
                    let piece = block_on(session.next_piece());
                    // After the last token nothing is left that could fail.
                    assert_eq!(piece.is_err(), token < ANSWER, "{piece:?}");
                    if let Err(error) = piece {
                        assert!(matches!(error, EngineError::TokenOutOfRange { .. }));
                    }
                }
                session.replace_context(context(&model, Routing::Live));
            });
            assert_eq!(failed, undisturbed, "failed before token {lost}");
        }
    }
}
