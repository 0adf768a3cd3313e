//! A conversation with a model of random weights: streaming, stopping, forgetting, refusing.

use std::path::Path;
use std::sync::Arc;

use mor_config::{Depth, ModelConfig, Preset};
use mor_engine::{
    ChatOptions, ChatSession, Context, DecodeOptions, Decoder, EngineError, FinishReason,
    GenerateOptions, Generator, LoadOptions, Model, Overflow, SamplingOptions,
};
use mor_text::{Message, Role, Tokenizer};
use pollster::block_on;

fn tokenizer() -> Arc<Tokenizer> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer");
    Arc::new(Tokenizer::from_dir(&dir).expect("the sample tokenizer"))
}

fn config(vocab_size: usize) -> ModelConfig {
    let mut config = Preset::Technical10m.config();
    config.vocab_size = vocab_size;
    config.hidden_size = 48;
    config.num_hidden_layers = 2;
    config.intermediate_size = 64;
    config.max_position_embeddings = 96;
    config
}

fn decoder(vocab_size: usize) -> Decoder {
    let model = Model::random(config(vocab_size), 9, LoadOptions::default()).expect("a model");
    Decoder::new(Arc::new(model), DecodeOptions::default()).expect("a decoder")
}

fn session() -> ChatSession {
    let tokenizer = tokenizer();
    ChatSession::new(decoder(tokenizer.vocab_size()), tokenizer).expect("a session")
}

fn options(max_new_tokens: usize, seed: u64) -> ChatOptions {
    let sampling = SamplingOptions {
        temperature: 1.0,
        seed,
        ..SamplingOptions::default()
    };
    ChatOptions {
        sampling,
        max_new_tokens,
        ..ChatOptions::default()
    }
}

#[test]
fn pieces_add_up_to_the_reply() {
    let mut session = session();
    let started = block_on(session.ask("list files", options(20, 1))).expect("fits");
    assert_eq!(started.dropped_messages, 0);
    let (mut text, mut tokens) = (String::new(), 0);
    while let Some(piece) = block_on(session.next_piece()).expect("runs") {
        text += &piece.text;
        tokens += 1;
        assert_eq!(piece.steps, [2, 2]);
        assert!(piece.probability > 0.0 && piece.probability <= 1.0);
    }
    let reply = session.stop();
    // What is incomplete at the end comes with the reply only.
    assert!(reply.text.starts_with(&text));
    assert_eq!(reply.tokens, tokens);
    assert!(reply.finish.is_some());
    assert_eq!(session.messages().len(), 2);
    assert_eq!(
        session.messages()[1],
        Message::new(Role::Assistant, reply.text)
    );
    assert!(
        block_on(session.next_piece())
            .expect("nothing runs")
            .is_none()
    );
    session.clear();
    assert!(session.messages().is_empty());
}

#[test]
fn the_seed_and_the_history_decide() {
    let answer = |seed, before: &str| {
        let mut session = session();
        if !before.is_empty() {
            session.set_messages(vec![
                Message::new(Role::User, before),
                Message::new(Role::Assistant, "ok"),
            ]);
        }
        block_on(session.ask("list files", options(12, seed))).expect("fits");
        while block_on(session.next_piece()).expect("runs").is_some() {}
        session.stop().text
    };
    assert_eq!(answer(1, ""), answer(1, ""));
    assert_ne!(answer(1, ""), answer(2, ""));
    assert_ne!(answer(1, ""), answer(1, "tar"));
}

#[test]
fn an_answer_can_be_stopped_and_the_conversation_goes_on() {
    let mut session = session();
    block_on(session.ask("list files", options(50, 1))).expect("fits");
    block_on(session.next_piece()).expect("runs");
    let reply = session.stop();
    assert_eq!((reply.tokens, reply.finish), (1, None));
    block_on(session.set_depth(Depth::Forced(1))).expect("a depth it has");
    block_on(session.ask("and now", options(3, 1))).expect("fits");
    let piece = block_on(session.next_piece())
        .expect("runs")
        .expect("a token");
    assert_eq!(piece.steps, [1, 1]);
    assert!(block_on(session.set_depth(Depth::Forced(9))).is_err());
}

#[test]
fn the_oldest_turns_are_forgotten_first() {
    let mut session = session();
    session.set_messages(vec![Message::new(Role::System, "be brief")]);
    let mut dropped = 0;
    for turn in 0..8 {
        let started = block_on(session.ask("how do I list files", options(8, turn))).expect("fits");
        assert!(started.prompt_tokens < 96);
        assert!(started.dropped_messages >= dropped, "turn {turn}");
        dropped = started.dropped_messages;
        // The system's message opens the context whatever was dropped.
        let opening = tokenizer()
            .encode_chat(&session.messages()[..1], false)
            .expect("encodes");
        assert_eq!(session.context().ids()[..opening.len()], opening);
        while block_on(session.next_piece()).expect("runs").is_some() {}
        session.stop();
    }
    assert!(
        dropped > 0 && dropped.is_multiple_of(2),
        "{dropped} dropped"
    );

    let before = session.messages().len();
    let refused = block_on(session.ask(&"word ".repeat(200), options(8, 0)));
    assert!(matches!(
        refused,
        Err(EngineError::ContextFull { limit: 96, .. })
    ));
    assert_eq!(session.messages().len(), before);
}

#[test]
fn another_models_tokenizer_is_refused() {
    let tokenizer = tokenizer();
    let size = tokenizer.vocab_size();
    for rows in [size - 1, 2 * size] {
        let refused = ChatSession::new(decoder(rows), tokenizer.clone());
        assert!(matches!(
            refused,
            Err(EngineError::TokenizerMismatch { .. })
        ));
    }
    ChatSession::new(decoder(size + size / 16), tokenizer).expect("padded to a round number");
}

#[test]
fn generation_ends_for_the_stated_reason() {
    let mut context = Context::from(decoder(100));
    let run = |context: &mut Context, options: GenerateOptions| {
        let mut generator = block_on(Generator::start(context, &[5; 90], options)).expect("starts");
        let tokens = block_on(generator.rest(context)).expect("runs");
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        (ids, generator.finish_reason())
    };
    let base = GenerateOptions {
        sampling: SamplingOptions {
            temperature: 1.0,
            ..SamplingOptions::default()
        },
        max_new_tokens: 20,
        ..GenerateOptions::default()
    };
    let (ids, finish) = run(&mut context, base.clone());
    assert_eq!((ids.len(), finish), (20, Some(FinishReason::Length)));
    let stop = GenerateOptions {
        overflow: Overflow::Stop,
        ..base.clone()
    };
    let (short, finish) = run(&mut context, stop);
    // Six fit the context, and the last token needs not be read.
    assert_eq!((short.len(), finish), (7, Some(FinishReason::Context)));
    assert_eq!(short, ids[..7]);
    let stop = GenerateOptions {
        stop_ids: vec![ids[3]],
        ..base
    };
    let (short, finish) = run(&mut context, stop);
    let first = ids
        .iter()
        .position(|id| *id == ids[3])
        .expect("it is there");
    assert_eq!(
        (short, finish),
        (ids[..first].to_vec(), Some(FinishReason::Stop))
    );
}

#[test]
fn an_answer_goes_past_the_context_if_it_may() {
    let mut session = session();
    for (overflow, finish) in [
        (Overflow::Stop, FinishReason::Context),
        (Overflow::Slide, FinishReason::Length),
        (Overflow::Rewind, FinishReason::Length),
    ] {
        // A seed whose answer does not end before the context does.
        let ended = (0..20).find_map(|seed| {
            session.clear();
            let options = ChatOptions {
                overflow,
                ..options(150, seed)
            };
            block_on(session.ask("list files", options)).expect("fits");
            while block_on(session.next_piece()).expect("runs").is_some() {}
            let reply = session.stop();
            (reply.finish != Some(FinishReason::Stop)).then_some(reply)
        });
        let reply = ended.expect("a long answer");
        assert_eq!(reply.finish, Some(finish), "{overflow:?}");
        assert_eq!(reply.tokens == 150, overflow != Overflow::Stop);
    }
}
