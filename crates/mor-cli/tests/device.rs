//! `--device` of `mor train` and `mor eval`, with lavapipe where there is no other adapter.
#![cfg(feature = "gpu")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RECIPE: &str = r#"
[model]
preset = "technical-10m"
vocab_size = 512
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 48

[train]
steps = 2
batch_tokens = 128
lr = 4e-3

[train.optimizer]
kind = "adamw"
"#;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}

fn train(folder: &Path, device: &str) -> Command {
    let recipe = folder.join("recipe.toml");
    std::fs::write(&recipe, RECIPE).expect("writable");
    let mut command = common::mor();
    command.args(["train", "--device", device, "--config"]);
    command.arg(recipe).arg("--data");
    command
        .arg(sample("technical-sample.jsonl"))
        .arg("--tokenizer");
    command.arg(sample("tokenizer")).arg("--output");
    command.arg(folder.join("run"));
    command
}

fn output(command: &mut Command) -> (bool, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.success(), text(stdout), text(stderr))
}

#[test]
fn trains_and_measures_on_a_gpu() {
    let folder = tempfile::tempdir().expect("a folder");
    let (good, _, errors) = output(&mut train(folder.path(), "gpu"));
    assert!(good, "{errors}");
    assert!(errors.contains("training on GPU: "), "{errors}");

    let mut bits = Vec::new();
    for device in ["gpu", "cpu"] {
        let mut command = common::mor();
        command.args([
            "eval", "--json", "--limit", "4", "--device", device, "--model",
        ]);
        command.arg(folder.path().join("run/model")).arg("--data");
        command.arg(sample("technical-sample-valid.jsonl"));
        let (good, json, errors) = output(&mut command);
        assert!(good, "{errors}");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        bits.push(json["bits_per_byte"].as_f64().expect("a number"));
    }
    assert!((bits[0] - bits[1]).abs() < 1e-4, "{bits:?}");
}

#[test]
fn says_which_device_and_why() {
    let folder = tempfile::tempdir().expect("a folder");
    for device in ["auto", "cpu"] {
        let mut command = train(folder.path(), device);
        let (good, _, errors) = output(command.arg("--dry-run"));
        assert!(good, "{errors}");
        assert!(errors.contains("training on "), "{errors}");
    }
}

#[test]
fn a_machine_without_an_adapter_hears_what_to_install() {
    let folder = tempfile::tempdir().expect("a folder");
    let hidden = |command: &mut Command| {
        // No driver is where the loader looks.
        let nowhere = folder.path().join("nothing.json");
        command.env("VK_ICD_FILENAMES", &nowhere);
        command.env("VK_DRIVER_FILES", nowhere);
        output(command)
    };
    if cfg!(target_os = "linux") {
        let (good, _, errors) = hidden(&mut train(folder.path(), "gpu"));
        assert!(!good && !errors.contains("panicked"), "{errors}");
        assert!(errors.contains("mesa-vulkan-drivers"), "{errors}");
        let (good, _, errors) = hidden(train(folder.path(), "auto").arg("--dry-run"));
        assert!(good && errors.contains("training on CPU"), "{errors}");
    }
}

#[test]
fn an_unknown_variant_is_a_mistake_that_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for device in ["gpu", "auto"] {
        let mut command = train(folder.path(), device);
        let (good, _, errors) = output(command.env("MOR_GPU_VARIANT", "fast"));
        assert!(!good && !errors.contains("panicked"), "{errors}");
        assert!(errors.contains("MOR_GPU_VARIANT: `fast`"), "{errors}");
    }
    let mut command = train(folder.path(), "gpu");
    command.env("MOR_GPU_VARIANT", "workgroup").arg("--dry-run");
    let (good, _, errors) = output(&mut command);
    assert!(good && errors.contains("workgroup kernels"), "{errors}");
}
