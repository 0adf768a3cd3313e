//! A context may be lost at any time: another one takes its place, and the text is the same.

use std::path::Path;
use std::sync::Arc;

use crate::common::devices::{Placed, on_every_device};
use crate::common::{self, one_thread};
use mor_config::{ModelConfig, Pooling, Preset};
use mor_engine::{
    ChatOptions, ChatSession, Context, DecodeOptions, EngineError, GenerateOptions, GeneratedToken,
    Generator, LoadOptions, Model, Overflow, Reply, Routing, SamplingOptions,
};
use mor_text::Tokenizer;
use pollster::block_on;
use safetensors::Dtype;

const ANSWER: usize = 24;

fn context(placed: &Placed, routing: Routing) -> Context {
    placed.context(DecodeOptions {
        routing,
        ..one_thread()
    })
}

/// Whatever routers decide and however the context slides, when each token is made by a fresh context.
#[test]
fn every_token_may_come_from_another_context() {
    let prompt: Vec<u32> = (0..30).map(|i| (i * 23 + 9) % 61).collect();
    for config in common::routed_configs() {
        let (_, weights) = common::tensors(&config, Dtype::F32);
        for placed in on_every_device(&config, &weights) {
            for routing in [Routing::Live, Routing::Locked] {
                for overflow in [Overflow::Slide, Overflow::Rewind] {
                    // What a context does when it is full is no device's business: a GPU sees each once.
                    let is_paired = (routing == Routing::Live) == (overflow == Overflow::Slide);
                    if !is_paired && placed.is_gpu() {
                        continue;
                    }
                    let what = format!(
                        "{:?}, {:?}, {routing:?}, {overflow:?} on {}",
                        config.architecture, config.routing.pooling, placed.device
                    );
                    check_replaced(&placed, routing, overflow, &prompt, &what);
                }
            }
        }
    }
}

fn check_replaced(
    placed: &Placed,
    routing: Routing,
    overflow: Overflow,
    prompt: &[u32],
    what: &str,
) {
    let fresh = || context(placed, routing);
    let generate = |replaced: bool| -> Vec<GeneratedToken> {
        let mut context = fresh();
        let options = GenerateOptions {
            max_new_tokens: 40,
            overflow,
            ..GenerateOptions::default()
        };
        let start = Generator::start(&mut context, prompt, options);
        let mut generator = block_on(start).expect("starts");
        let mut tokens = Vec::new();
        while let Some(token) = block_on(generator.next_token(&mut context)).expect("runs") {
            tokens.push(token);
            if replaced {
                context = fresh();
            }
        }
        tokens
    };
    let (whole, pieced) = (generate(false), generate(true));
    assert_eq!(whole.len(), 40);
    for (i, (a, b)) in whole.iter().zip(&pieced).enumerate() {
        assert_eq!((a.id, &a.steps), (b.id, &b.steps), "{what}, token {i}");
    }
}

fn tokenizer() -> Arc<Tokenizer> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer");
    Arc::new(Tokenizer::from_dir(&dir).expect("the sample tokenizer"))
}

fn config(vocab_size: usize) -> ModelConfig {
    let mut config = Preset::TechnicalCard.config();
    config.routing.pooling = Pooling::Sequence;
    config.vocab_size = vocab_size;
    config.hidden_size = 48;
    config.num_hidden_layers = 2;
    config.intermediate_size = 64;
    config.max_position_embeddings = 96;
    config
}

fn on_cpu(vocab_size: usize, seed: u64) -> Placed {
    let model = Model::random(config(vocab_size), seed, LoadOptions::default());
    Placed::on_cpu(model.expect("a model"))
}

/// Random weights whose answers do not end early.
fn talkative() -> (Placed, u64) {
    let vocab_size = tokenizer().vocab_size();
    let mut models = (0..50).map(|seed| (on_cpu(vocab_size, seed), seed));
    let long = |temperature, placed: &_| {
        let start = context(placed, Routing::Live);
        answer(start, temperature, |_, _| {}).0.len() == ANSWER
    };
    models
        .find(|(placed, _)| long(0.0, placed) && long(0.9, placed))
        .expect("long answers")
}

/// An answer in which `disturb` has its way before each token, and at the end.
fn answer(
    start: Context,
    temperature: f32,
    mut disturb: impl FnMut(&mut ChatSession, usize),
) -> (Vec<u32>, String, Reply) {
    let mut session = ChatSession::new(start, tokenizer()).expect("a session");
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
    let (placed, _) = talkative();
    let live = || context(&placed, Routing::Live);
    // Does not know the tokens of the conversation, so whatever it is asked fails.
    let ignorant = on_cpu(16, 9);
    for temperature in [0.0, 0.9] {
        let undisturbed = answer(live(), temperature, |_, _| {});
        for lost in 0..=ANSWER {
            let replaced = answer(live(), temperature, |session, token| {
                if token == lost {
                    session.replace_context(live());
                }
            });
            assert_eq!(replaced, undisturbed, "replaced before token {lost}");

            let failed = answer(live(), temperature, |session, token| {
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
                session.replace_context(live());
            });
            assert_eq!(failed, undisturbed, "failed before token {lost}");
        }
    }
}

/// The device goes when the token's random number has been drawn already.
#[cfg(feature = "gpu")]
#[test]
fn an_answer_goes_on_when_its_device_is_lost() {
    use crate::common::devices::shared_gpu;
    use mor_engine::WeightPrecision;
    use mor_engine::gpu::{Gpu, GpuModel};

    let vocab_size = tokenizer().vocab_size();
    let (_, seed) = talkative();
    let on_gpu = |gpu| {
        let model = GpuModel::random(gpu, config(vocab_size), seed, WeightPrecision::AsStored);
        Placed::on_gpu(block_on(model).expect("fits"))
    };
    let lasting = on_gpu(shared_gpu());
    for temperature in [0.0, 0.9] {
        let undisturbed = answer(context(&lasting, Routing::Live), temperature, |_, _| {});
        for lost in [0, 1, 8, ANSWER - 1] {
            let gpu = block_on(Gpu::open()).expect("a Vulkan driver");
            let start = context(&on_gpu(std::sync::Arc::clone(&gpu)), Routing::Live);
            let failed = answer(start, temperature, |session, token| {
                if token != lost {
                    return;
                }
                gpu.lose();
                for _ in 0..2 {
                    let error = block_on(session.next_piece()).expect_err("is lost");
                    assert!(matches!(error, EngineError::DeviceLost { .. }), "{error:?}");
                }
                session.replace_context(context(&lasting, Routing::Live));
            });
            assert_eq!(failed, undisturbed, "lost before token {lost}");
        }
    }
}
