//! Configurations from the shapes of the golden weights.

use std::path::{Path, PathBuf};

use mor_config::{ModelConfig, Precision, Weights};
use mor_import::{Checkpoint, ConversationalOptions, TechnicalOptions};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/goldens")
        .join(name)
}

fn config(name: &str) -> ModelConfig {
    let path = golden(name);
    ModelConfig::from_json(&std::fs::read(&path).expect(name), &path).expect(name)
}

#[test]
fn shapes_give_the_golden_configurations() {
    let checkpoint = Checkpoint::open(&golden("m1_learned.weights.safetensors")).expect("weights");
    let options = TechnicalOptions {
        heads: 4,
        ..TechnicalOptions::default()
    };
    let technical = mor_import::technical(&checkpoint, &options).expect("a technical model");
    assert_eq!(technical, config("m1_learned.config.json"));

    let checkpoint = Checkpoint::open(&golden("m2.weights.safetensors")).expect("weights");
    let options = ConversationalOptions {
        pad_id: Some(94),
        context: Some(64),
        ..ConversationalOptions::default()
    };
    let found = mor_import::conversational(&checkpoint, &options).expect("heads of the tables");
    assert_eq!(found, config("m2.config.json"));

    let mut options = ConversationalOptions::default();
    options
        .fill_from(&golden("m2.config.json"))
        .expect("readable");
    let found = mor_import::conversational(&checkpoint, &options).expect("from config.json");
    assert_eq!(found, config("m2.config.json"));

    // As some editors save it.
    let folder = tempfile::tempdir().expect("a folder");
    let marked = folder.path().join("config.json");
    let text = std::fs::read(golden("m2.config.json")).expect("readable");
    std::fs::write(&marked, [&b"\xef\xbb\xbf"[..], &text].concat()).expect("written");
    let mut same = ConversationalOptions::default();
    same.fill_from(&marked).expect("readable");
    let found = mor_import::conversational(&checkpoint, &same).expect("from config.json");
    assert_eq!(found, config("m2.config.json"));

    let wrong = ConversationalOptions {
        heads: Some(6),
        ..options
    };
    let error = mor_import::conversational(&checkpoint, &wrong).expect_err("other tables");
    assert!(error.to_string().contains("inv_freq"), "{error}");
}

#[test]
fn what_is_missing_or_unknown_is_listed() {
    let checkpoint = Checkpoint::open(&golden("m2.weights.safetensors")).expect("weights");
    let options = TechnicalOptions {
        heads: 4,
        ..TechnicalOptions::default()
    };
    let error = mor_import::technical(&checkpoint, &options).expect_err("the other model");
    assert!(
        error
            .to_string()
            .contains("`embeddings.token_embedding.weight` is missing")
    );

    // One tensor renamed, one of another shape.
    let weights = Weights::open(&golden("m1_learned.weights.safetensors")).expect("weights");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd.safetensors");
    let tensors: Vec<_> = weights
        .names()
        .into_iter()
        .map(|name| {
            let values = weights.to_f32(&name).expect("floats");
            let mut shape = weights.shape(&name).expect("there").to_vec();
            let renamed = name.replace("final_norm.weight", "last_norm.weight");
            if name == "layers.1.norm1.bias" {
                shape.insert(0, 1);
            }
            (renamed, shape, values)
        })
        .collect();
    mor_config::save_tensors(&path, &tensors, Precision::F32).expect("writable");
    let checkpoint = Checkpoint::open(&path).expect("readable");
    let error = mor_import::technical(&checkpoint, &options)
        .expect_err("odd")
        .to_string();
    for part in [
        "`final_norm.weight` is missing",
        "`last_norm.weight` is unknown",
        "`layers.1.norm1.bias` has shape [1, 48], not [48]",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_equal_head_is_tied() {
    let weights = Weights::open(&golden("m1_learned.weights.safetensors")).expect("weights");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tied.safetensors");
    let tensors: Vec<_> = weights
        .names()
        .into_iter()
        .map(|name| {
            let source = name.replace("lm_head.weight", "embeddings.token_embedding.weight");
            let shape = weights.shape(&name).expect("there").to_vec();
            (
                format!("module.{name}"),
                shape,
                weights.to_f32(&source).expect("floats"),
            )
        })
        .collect();
    mor_config::save_tensors(&path, &tensors, Precision::F32).expect("writable");
    let checkpoint = Checkpoint::open(&path).expect("readable");
    let options = TechnicalOptions {
        heads: 4,
        ..TechnicalOptions::default()
    };
    let config = mor_import::technical(&checkpoint, &options).expect("tied");
    assert!(config.tie_word_embeddings);
}
