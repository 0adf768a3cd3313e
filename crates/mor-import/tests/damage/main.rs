//! Damaged files give errors: never a panic, and never an allocation that the file's size does not warrant.
//!
//! Each loader gets thousands of inputs, made of small valid files by flipping bits, truncating, splicing and replacing
//! numbers; over 100,000 in all, and as many for each loader with `MOR_DAMAGE_CASES=100000` in the environment. The
//! allocator of this program records what loading asks for.

mod allocator;
mod mutation;

use std::path::Path;

use mor_config::{Architecture, ModelConfig, Precision, Preset, Weights, check_tensors};
use mor_engine::{GENERATION_FILE, GenerationConfig, Probe};
use mor_import::{Checkpoint, ConversationalOptions, PtFile, TechnicalOptions};
use mor_text::{Message, Role, Tokenizer};

use mutation::{is_in_proportion, survive};

/// How many inputs a loader gets: `usual`, or as many as the environment asks for.
fn cases(usual: u32) -> u32 {
    let asked = std::env::var("MOR_DAMAGE_CASES").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(usual)
}

fn data(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    std::fs::read(root.join(name)).expect(name)
}

#[test]
fn config_json() {
    let seeds = [
        data("goldens/m1_learned.config.json"),
        data("goldens/m2.config.json"),
        Preset::Technical10m.config().to_json().into_bytes(),
    ];
    survive(cases(30_000), &seeds, |bytes| {
        if let Ok(config) = ModelConfig::from_json(&bytes, Path::new("config.json")) {
            let _ = (
                config.head_dim(),
                config.embedding_bands(),
                config.to_json(),
            );
        }
    });
}

/// A technical model of few numbers.
fn tiny() -> ModelConfig {
    let mut config = Preset::TechnicalCard.config();
    config.vocab_size = 11;
    config.hidden_size = 8;
    config.num_hidden_layers = 1;
    config.num_attention_heads = 2;
    config.intermediate_size = 12;
    config.max_position_embeddings = 4;
    config.routing.max_steps = 1;
    config
}

#[test]
fn generation_config_json() {
    let seeds = [
        r#"{"do_sample": true, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.1, "max_new_tokens": 64}"#,
        r#"{"bos_token_id": 2, "do_sample": false, "eos_token_id": [3, 7], "max_length": 256, "temperature": null}"#,
        "\u{FEFF}{\"eos_token_id\": 3}",
    ]
    .map(|text| text.as_bytes().to_vec());
    survive(cases(3_000), &seeds, |bytes| {
        let _ = GenerationConfig::from_json(&bytes, Path::new(GENERATION_FILE));
    });
}

#[test]
fn model_safetensors() {
    let config = tiny();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let tensors: Vec<_> = config
        .tensors()
        .into_iter()
        .map(|spec| {
            let len = spec.shape.iter().product();
            (spec.name, spec.shape, vec![0.5_f32; len])
        })
        .collect();
    let seeds = [Precision::F32, Precision::F16, Precision::Q8].map(|precision| {
        mor_config::save_tensors(&path, &tensors, precision).expect("writable");
        std::fs::read(&path).expect("written")
    });
    survive(cases(30_000), &seeds, |bytes| {
        let Ok(weights) = Weights::from_bytes(bytes, Path::new("model.safetensors")) else {
            return;
        };
        let _ = check_tensors(&config, &weights);
        for name in weights.names() {
            let _ = (weights.to_f32(&name), weights.to_i64(&name));
        }
    });
}

/// A configuration may ask for far more than the weights file beside it holds.
#[test]
fn a_configuration_for_other_weights() {
    let mut config = tiny();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    mor_config::save_tensors(
        &path,
        &[("a".to_owned(), vec![1], vec![0.0])],
        Precision::F32,
    )
    .expect("writable");
    let weights = Weights::open(&path).expect("whole");
    for architecture in [Architecture::Technical, Architecture::Conversational] {
        config.architecture = architecture;
        config.num_hidden_layers = 1024;
        config.routing.max_steps = 64;
        let (result, usage) = allocator::watch(|| check_tensors(&config, &weights));
        assert!(
            result
                .expect_err("too few")
                .to_string()
                .contains("1 tensors")
        );
        assert!(usage.peak < 10_000, "{usage:?}");
    }
}

#[test]
fn pt() {
    let seeds =
        ["stored.pt", "deflated.pt", "nested.pt"].map(|name| data(&format!("data/pt/{name}")));
    survive(cases(36_000), &seeds, |bytes| {
        let Ok(file) = PtFile::from_bytes(bytes, Path::new("model.pt")) else {
            return;
        };
        for name in file.names() {
            let _ = (file.to_f32(name), file.to_i64(name));
        }
    });
}

/// What a checkpoint's tensors say of its configuration, tables of positions compared with their formulas.
#[test]
fn checkpoints() {
    let technical = TechnicalOptions {
        heads: 2,
        ..TechnicalOptions::default()
    };
    let conversational = ConversationalOptions {
        pad_id: Some(0),
        ..ConversationalOptions::default()
    };
    let seeds = [data("data/pt/sinusoidal.pt")];
    let whole = Checkpoint::from_bytes(seeds[0].clone(), Path::new("model.pt")).expect("whole");
    mor_import::technical(&whole, &technical).expect("a technical model");
    survive(cases(12_000), &seeds, |bytes| {
        let Ok(checkpoint) = Checkpoint::from_bytes(bytes, Path::new("model.pt")) else {
            return;
        };
        let _ = mor_import::technical(&checkpoint, &technical);
        let _ = mor_import::conversational(&checkpoint, &conversational);
    });
}

/// The original's configuration, which options are filled in from.
#[test]
fn original_config_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.json");
    let seeds = [
        data("goldens/m2.config.json"),
        b"\xef\xbb\xbf{\"n_head\": 4, \"pad_id\": 7, \"rope_base\": 1e4, \"eos_token_id\": null}"
            .to_vec(),
    ];
    survive(cases(3_000), &seeds, |bytes| {
        std::fs::write(&path, bytes).expect("written");
        let _ = ConversationalOptions::default().fill_from(&path);
    });
}

#[test]
fn probe_json() {
    let seeds = [br#"{"ids":[1,5,9,2],"top":[[7,3.5],[4,2.25],[1,-0.125]]}"#.to_vec()];
    Probe::from_json(&seeds[0]).expect("a probe");
    survive(cases(6_000), &seeds, |bytes| {
        let _ = Probe::from_json(&bytes);
    });
}

/// Programs that build as much as they can from each byte.
#[test]
fn costly_pickles() {
    const LEN: usize = 2 << 20;
    let programs: [(&str, &[u8], &[u8]); 12] = [
        ("values", b"", b"N"),
        ("marks", b"", b"("),
        ("remembered values", b"N", b"\x94"),
        ("lists", b"", b"]"),
        ("nested lists", b"]", b"]a"),
        ("dictionaries", b"", b"}"),
        ("items of one list", b"](", b"N"),
        ("appended one by one", b"]", b"Na"),
        ("items of one dictionary", b"}", b"NNs"),
        ("nested tuples", b")", b"\x85"),
        (
            "ordered dictionaries",
            b"",
            b"ccollections\nOrderedDict\n)R",
        ),
        ("recalled texts", b"X\x08\0\0\0aaaaaaaaq\0", b"h\0"),
    ];
    for (name, start, repeated) in programs {
        let mut pickle = [b"\x80\x02", start].concat();
        while pickle.len() < LEN {
            pickle.extend_from_slice(repeated);
        }
        pickle.push(b'.');
        let bytes = archive(&pickle);
        let len = bytes.len();
        let (result, usage) = allocator::watch(|| PtFile::from_bytes(bytes, Path::new("model.pt")));
        assert!(result.is_err(), "{name}");
        assert!(
            is_in_proportion(usage, len),
            "{name}: {len} bytes asked for {usage:?}"
        );
        assert!(usage.peak < 6 * len as isize, "{name}: {usage:?}");
    }
}

/// A zip archive with nothing but a pickle.
fn archive(pickle: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"archive/data.pkl";
    let size = u32::try_from(pickle.len()).expect("short").to_le_bytes();
    let name_len = [NAME.len() as u8, 0, 0, 0];
    let sizes = [&[0; 4][..], &size, &size, &name_len].concat();
    let local = [&b"PK\x03\x04"[..], &[0; 10], &sizes, NAME, pickle].concat();
    let start = u32::try_from(local.len()).expect("short").to_le_bytes();
    let central = [&b"PK\x01\x02"[..], &[0; 12], &sizes, &[0; 14], NAME].concat();
    let central_len = (central.len() as u32).to_le_bytes();
    let end = [
        &b"PK\x05\x06"[..],
        &[0, 0, 0, 0, 1, 0, 1, 0],
        &central_len,
        &start,
        &[0; 2],
    ];
    [local, central, end.concat()].concat()
}

#[test]
fn tokenizer_json() {
    let config = data("data/tokenizer/tokenizer_config.json");
    let seeds = [byte_level(), on_characters()];
    let messages = [Message::new(Role::User, "Hello, wörld <eos> 12")];
    survive(cases(12_000), &seeds, |bytes| {
        apart(&bytes, |bytes| {
            let Ok(tokenizer) = Tokenizer::from_bytes(bytes, &config) else {
                return;
            };
            if let Ok(ids) = tokenizer.encode("Hi there\t<eos> `x = 1` é") {
                let _ = tokenizer.decode(&ids);
            }
            let _ = tokenizer.encode_chat(&messages, true);
        });
    });
}

#[test]
fn tokenizer_config_json() {
    let tokenizer = byte_level();
    let seeds = [data("data/tokenizer/tokenizer_config.json")];
    let messages = [Message::new(Role::User, "Hello, wörld <eos> 12")];
    survive(cases(3_000), &seeds, |bytes| {
        apart(&bytes, |bytes| {
            if let Ok(tokenizer) = Tokenizer::from_bytes(&tokenizer, bytes) {
                let _ = tokenizer.encode_chat(&messages, true);
            }
        });
    });
}

/// Loads a tokenizer on a thread of its own: the `tokenizers` crate keeps a table in each thread of all tokenizers that have
/// encoded there, which grows with their number.
fn apart(bytes: &[u8], load: impl Fn(&[u8]) + Sync) {
    let usage = std::thread::scope(|scope| {
        let loading = scope.spawn(|| allocator::watch(|| load(bytes)).1);
        let panicked = |panic| std::panic::resume_unwind(panic);
        loading.join().unwrap_or_else(panicked)
    });
    let len = bytes.len();
    assert!(
        is_in_proportion(usage, len),
        "{len} bytes asked for {usage:?}"
    );
}

/// Every byte and a few merges.
fn byte_level() -> Vec<u8> {
    let json = data("data/tokenizer/tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let vocab = json["model"]["vocab"]
        .as_object_mut()
        .expect("a vocabulary");
    vocab.retain(|_, id| id.as_u64().is_some_and(|id| id < 300));
    let known = vocab.clone();
    let is_known = |merge: &serde_json::Value| {
        let (left, right) = (merge[0].as_str(), merge[1].as_str());
        known.contains_key(&[left, right].map(Option::unwrap_or_default).concat())
    };
    let merges = json["model"]["merges"].as_array_mut().expect("merges");
    merges.retain(is_known);
    serde_json::to_vec(&json).expect("JSON")
}

/// The kind that is imported from the technical original.
fn on_characters() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect(name);
    write(
        "vocab.json",
        r#"{"<pad>":0,"<unk>":1,"<bos>":2,"<eos>":3,"<|tab|>":4,"h":5,"i":6,"hi":7,"e":8," ":9,"`":10}"#,
    );
    write("merges.txt", "h i\n");
    write(
        "tokenizer_config.json",
        r#"{"special_tokens":{"<pad>":0,"<unk>":1,"<bos>":2,"<eos>":3,"<|tab|>":4}}"#,
    );
    let (tokenizer, _) = mor_text::import_tokenizer(folder.path()).expect("a tokenizer");
    let output = folder.path().join("output");
    tokenizer.save(&output).expect("writable");
    std::fs::read(output.join("tokenizer.json")).expect("written")
}
