//! What rounding to int8 costs the shipped model, on text it was not trained on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use crate::common::stored_as_int8;
use mor_config::{ModelConfig, Weights};
use mor_engine::{DecodeOptions, Decoder, LoadOptions, Model, WeightPrecision};
use mor_text::{Message, Tokenizer};

fn folder(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// What a model says at every position of some conversations but the last, given the tokens before.
struct Forced {
    /// The likeliest token of each position.
    top: Vec<usize>,
    /// Summed bits of the tokens that follow.
    bits: f64,
}

fn force(model: &Arc<Model>, conversations: &[Vec<u32>]) -> Forced {
    let mut decoder = Decoder::new(Arc::clone(model), DecodeOptions::default()).expect("a decoder");
    let mut logits = vec![0.0; model.config().vocab_size];
    let mut forced = Forced {
        top: Vec::new(),
        bits: 0.0,
    };
    for ids in conversations {
        decoder.reset();
        decoder.prefill(ids).expect("fits");
        for (position, next) in ids.iter().skip(1).enumerate() {
            decoder.logits_at(position, &mut logits).expect("there");
            let top = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            let top = top.expect("a vocabulary");
            let highest = f64::from(logits[top]);
            let total: f64 = logits.iter().map(|x| (f64::from(*x) - highest).exp()).sum();
            let next = f64::from(logits[*next as usize]) - highest;
            forced.bits += (total.ln() - next) / std::f64::consts::LN_2;
            forced.top.push(top);
        }
    }
    forced
}

/// Conversations as the model of a folder reads them, and the bytes of their contents.
fn sample(model_folder: &Path) -> (Vec<Vec<u32>>, usize) {
    let tokenizer = Tokenizer::from_dir(model_folder).expect("a tokenizer");
    let text = folder("tests/data/technical-sample-valid.jsonl");
    let text = BufReader::new(std::fs::File::open(text).expect("the sample"));
    let (mut conversations, mut bytes) = (Vec::new(), 0);
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let messages: Vec<Message> =
            serde_json::from_value(row["messages"].clone()).expect("messages");
        bytes += messages.iter().map(|m| m.content.len()).sum::<usize>();
        let chat = tokenizer.encode_chat(&messages, false).expect("a chat");
        conversations.push(chat);
    }
    (conversations, bytes)
}

#[test]
fn int8_keeps_the_model() {
    let model_folder = folder("models/technical-10m");
    let (conversations, bytes) = sample(&model_folder);
    let [exact, rounded] = [WeightPrecision::F32, WeightPrecision::Q8].map(|precision| {
        let options = LoadOptions {
            precision,
            ..LoadOptions::default()
        };
        let model = Arc::new(Model::load_with(&model_folder, options).expect("a model"));
        force(&model, &conversations)
    });
    let same = exact.top.iter().zip(&rounded.top).filter(|(a, b)| a == b);
    let (same, positions) = (same.count() as f64, exact.top.len() as f64);
    let lost = (rounded.bits - exact.bits) / bytes as f64;
    println!(
        "{positions} positions: the same token in {:.2} %, {:.4} bits per byte, {lost:+.5} lost",
        same / positions * 100.0,
        exact.bits / bytes as f64
    );
    assert!(positions > 1000.0);
    assert!(same / positions >= 0.97, "{same} of {positions}");
    assert!(lost < 0.01, "{lost} bits per byte");
}

/// A file of int8 gives the very results of rounding when loading.
#[test]
fn stored_and_rounded_int8_agree() {
    let model_folder = folder("models/technical-10m");
    let exact = Weights::open(&model_folder.join(mor_config::WEIGHTS_FILE)).expect("weights");
    let stored = stored_as_int8(&exact);
    let config = ModelConfig::from_dir(&model_folder).expect("a configuration");
    let options = |precision| LoadOptions {
        precision,
        ..LoadOptions::default()
    };
    // Text: among tokens at random a trained model is unsure of everything, and roundings decide.
    let ids = &sample(&model_folder).0[0];
    let [stored, widened, rounded] = [
        Model::from_parts_with(config.clone(), &stored, options(WeightPrecision::AsStored)),
        Model::from_parts_with(config, &stored, options(WeightPrecision::F32)),
        Model::load_with(&model_folder, options(WeightPrecision::Q8)),
    ]
    .map(|model| {
        let model = Arc::new(model.expect("a model"));
        let mut decoder = Decoder::new(model, DecodeOptions::default()).expect("a decoder");
        decoder.prefill(ids).expect("fits");
        decoder.logits().to_vec()
    });
    assert_eq!(stored, rounded);
    let largest = widened.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    for (a, b) in stored.iter().zip(&widened) {
        assert!((a - b).abs() < 0.05 * largest, "{a} {b}");
    }
}
