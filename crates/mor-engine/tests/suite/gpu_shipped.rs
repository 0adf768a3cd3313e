//! The shipped model on the GPU: the CPU's tokens, and what happens when the device goes away.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mor_config::{ModelConfig, WEIGHTS_FILE, Weights};
use mor_engine::gpu::{Gpu, GpuDecoder, GpuModel};
use mor_engine::{
    ChatOptions, ChatSession, Context, DecodeOptions, Decoder, EngineError, GenerateOptions,
    Generator, LoadOptions, Model, Overflow, SamplingOptions, WeightPrecision,
};
use mor_text::{Message, Role, Tokenizer};
use pollster::block_on;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m")
}

fn gpu() -> Arc<Gpu> {
    block_on(Gpu::open()).expect("a Vulkan driver: on Debian, the package mesa-vulkan-drivers")
}

fn on_gpu(gpu: Arc<Gpu>) -> GpuDecoder {
    let config = ModelConfig::from_dir(&folder()).expect("a configuration");
    let weights = Weights::open(&folder().join(WEIGHTS_FILE)).expect("weights");
    let model = GpuModel::from_parts(gpu, config, &weights, WeightPrecision::AsStored);
    let model = Arc::new(block_on(model).expect("fits"));
    block_on(GpuDecoder::new(model, DecodeOptions::default())).expect("a decoder")
}

fn on_cpu() -> Decoder {
    let model = Model::load_with(&folder(), LoadOptions::default()).expect("the shipped model");
    Decoder::new(Arc::new(model), DecodeOptions::default()).expect("a decoder")
}

/// Questions of people, from rows that the model was not trained on.
fn questions(tokenizer: &Tokenizer, count: usize) -> Vec<Vec<u32>> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/technical-sample-valid.jsonl");
    let text = std::fs::read_to_string(path).expect("the sample");
    let rows = text.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let content = row["messages"][0]["content"].as_str().expect("text");
        let message = Message::new(Role::User, content.to_owned());
        tokenizer.encode_chat(&[message], true).expect("encodable")
    });
    rows.filter(|ids| ids.len() < 60).take(count).collect()
}

fn generate(context: &mut Context, prompt: &[u32], tokens: usize) -> Vec<u32> {
    let options = GenerateOptions {
        sampling: SamplingOptions::default(),
        max_new_tokens: tokens,
        stop_ids: Vec::new(),
        overflow: Overflow::Stop,
    };
    let mut generator = block_on(Generator::start(context, prompt, options)).expect("fits");
    let mut ids = Vec::new();
    while let Some(token) = block_on(generator.next_token(context)).expect("a token") {
        ids.push(token.id);
    }
    ids
}

#[test]
fn twenty_greedy_answers_are_the_same() {
    let tokenizer = Tokenizer::from_dir(&folder()).expect("a tokenizer");
    let (mut cpu, mut gpu) = (Context::from(on_cpu()), Context::from(on_gpu(gpu())));
    let prompts = questions(&tokenizer, 20);
    assert_eq!(prompts.len(), 20);
    for (i, prompt) in prompts.iter().enumerate() {
        // One at length: a software GPU would take minutes for all of them.
        let length = if i == 0 { 64 } else { 12 };
        let expected = generate(&mut cpu, prompt, length);
        assert_eq!(expected.len(), length, "prompt {i}");
        assert_eq!(generate(&mut gpu, prompt, length), expected, "prompt {i}");
    }
}

#[test]
fn the_same_random_numbers_draw_the_same_tokens() {
    let tokenizer = Tokenizer::from_dir(&folder()).expect("a tokenizer");
    let (mut cpu, mut gpu) = (Context::from(on_cpu()), Context::from(on_gpu(gpu())));
    let base = SamplingOptions {
        temperature: 0.8,
        ..SamplingOptions::default()
    };
    let all = [
        base,
        SamplingOptions { top_k: 5, ..base },
        SamplingOptions { top_p: 0.9, ..base },
        SamplingOptions {
            top_k: 40,
            top_p: 0.8,
            repetition_penalty: 1.2,
            ..base
        },
        SamplingOptions {
            repetition_penalty: 1.3,
            ..SamplingOptions::default()
        },
    ];
    let prompts = questions(&tokenizer, 3);
    for options in all {
        let (mut same, mut draws) = (0, 0);
        for (seed, prompt) in (0..).zip(&prompts) {
            let options = SamplingOptions { seed, ..options };
            let mut samplers = [&cpu, &gpu].map(|context| context.sampler(options).expect("valid"));
            for context in [&mut cpu, &mut gpu] {
                block_on(context.set_context(prompt)).expect("fits");
            }
            for _ in 0..12 {
                let expected = block_on(cpu.choose(&mut samplers[0])).expect("a token");
                let actual = block_on(gpu.choose(&mut samplers[1])).expect("a token");
                draws += 1;
                if actual.id == expected.id {
                    same += 1;
                    let error = (actual.probability - expected.probability).abs();
                    assert!(
                        error < 1e-4,
                        "{actual:?}, not {expected:?}, with {options:?}"
                    );
                }
                for context in [&mut cpu, &mut gpu] {
                    block_on(context.push(expected.id)).expect("fits");
                }
            }
        }
        // A number that falls on the border between two tokens goes to one or the other by rounding.
        assert!(
            same * 100 >= draws * 97,
            "{same} of {draws} with {options:?}"
        );
    }
}

fn question(session: &mut ChatSession, lose_after: Option<(usize, &Arc<Gpu>)>) -> String {
    let options = ChatOptions {
        max_new_tokens: 24,
        ..ChatOptions::default()
    };
    let text = "How do I list the files in a zip archive?";
    block_on(session.ask(text, options)).expect("starts");
    let (mut tokens, mut losses) = (0, 0);
    loop {
        if let Some((after, gpu)) = lose_after
            && tokens == after
            && losses == 0
        {
            gpu.lose();
        }
        match block_on(session.next_piece()) {
            Ok(Some(_)) => tokens += 1,
            Ok(None) => break,
            Err(EngineError::DeviceLost { .. }) => {
                losses += 1;
                assert!(losses == 1, "lost again");
                // One time the device is opened anew, one time the processor goes on.
                match tokens % 2 {
                    0 => session.replace_context(on_gpu(self::gpu())),
                    _ => session.replace_context(on_cpu()),
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(losses, u32::from(lose_after.is_some()));
    session.stop().text
}

#[test]
fn an_answer_survives_the_loss_of_its_device() {
    let tokenizer = Arc::new(Tokenizer::from_dir(&folder()).expect("a tokenizer"));
    let session = |context: Context| {
        ChatSession::new(context, Arc::clone(&tokenizer)).expect("the model's own tokenizer")
    };
    let expected = question(&mut session(on_cpu().into()), None);
    for after in [1, 6, 9] {
        let gpu = gpu();
        let mut chat = session(on_gpu(Arc::clone(&gpu)).into());
        assert_eq!(question(&mut chat, Some((after, &gpu))), expected);
        assert!(gpu.is_lost());
        // The conversation is still there.
        assert_eq!(chat.messages().len(), 2);
    }
}
