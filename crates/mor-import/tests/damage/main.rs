//! Damaged files give errors: never a panic, and never an allocation that the file's size does not warrant.
//!
//! Each loader gets tens of thousands of inputs, made of small valid files by flipping bits, truncating, splicing and
//! replacing numbers; 108,000 in all. The allocator of this program records what loading asks for.

mod allocator;
mod mutation;

use std::path::Path;

use mor_config::{Architecture, ModelConfig, Precision, Preset, Weights, check_tensors};
use mor_import::PtFile;
use mor_text::{Message, Role, Tokenizer};

use mutation::{is_in_proportion, survive};

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
    survive(30_000, &seeds, |bytes| {
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
    survive(30_000, &seeds, |bytes| {
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
    survive(36_000, &seeds, |bytes| {
        let Ok(file) = PtFile::from_bytes(bytes, Path::new("model.pt")) else {
            return;
        };
        for name in file.names() {
            let _ = (file.to_f32(name), file.to_i64(name));
        }
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
    survive(12_000, &seeds, |bytes| {
        let Ok(tokenizer) = Tokenizer::from_bytes(&bytes, &config) else {
            return;
        };
        if let Ok(ids) = tokenizer.encode("Hi there\t<eos> `x = 1` é") {
            let _ = tokenizer.decode(&ids);
        }
        let _ = tokenizer.encode_chat(&messages, true);
    });
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
