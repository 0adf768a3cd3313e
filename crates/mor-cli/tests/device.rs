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

/// A folder with the shipped model's files, and another probe or none.
fn shipped_with_probe(probe: Option<&str>) -> tempfile::TempDir {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m");
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(shipped).expect("the shipped model") {
        let entry = entry.expect("a file");
        if entry.file_name() != "probe.json" {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("room");
        }
    }
    if let Some(probe) = probe {
        std::fs::write(folder.path().join("probe.json"), probe).expect("room");
    }
    folder
}

/// What a GPU that computes otherwise than the CPU looks like from here.
const WRONG_PROBE: &str = r#"{"ids":[2,5,40,6],"top":[[9,8.0],[10,7.0]]}"#;

fn generate(folder: &Path, device: &str) -> Command {
    let mut command = common::mor();
    command.args([
        "generate",
        "--prompt-ids",
        "2,5,40,6",
        "--max-new-tokens",
        "2",
    ]);
    command.args(["--device", device, "--json", "--model"]);
    command.arg(folder);
    // Nothing is remembered from one test to another.
    command.env("MOR_CACHE_DIR", folder.join("cache"));
    command
}

#[test]
fn a_gpu_that_computes_wrongly_is_refused_by_name() {
    let folder = shipped_with_probe(Some(WRONG_PROBE));
    let mut bench = common::mor();
    bench.args("bench decode --new-tokens 2 --runs 1 --device gpu --model".split(' '));
    bench.arg(folder.path());
    let mut eval = common::mor();
    eval.args("eval --limit 1 --device gpu --model".split(' '));
    eval.arg(folder.path()).arg("--data");
    eval.arg(sample("technical-sample-valid.jsonl"));
    for mut command in [generate(folder.path(), "gpu"), bench, eval] {
        let (good, text, errors) = output(&mut command);
        assert!(!good && text.is_empty(), "{text}");
        assert!(errors.contains("computes wrongly"), "{errors}");
        // Which adapter, and by how much.
        assert!(
            errors.contains('(') && errors.contains("differs by "),
            "{errors}"
        );
    }
    let (good, json, errors) =
        output(generate(folder.path(), "auto").env("MOR_TRY_SOFTWARE_GPU", "1"));
    assert!(good && json.contains("the CPU"), "{json}");
    assert!(errors.contains("computes wrongly"), "{errors}");
    assert!(errors.contains("going on, on the CPU"), "{errors}");
}

#[test]
fn a_model_without_a_probe_is_compared_with_the_cpu() {
    let folder = shipped_with_probe(None);
    let (good, json, errors) = output(&mut generate(folder.path(), "gpu"));
    assert!(good && !json.contains("the CPU"), "{json}{errors}");
    assert!(errors.contains("has no probe.json"), "{errors}");
    assert!(!folder.path().join("probe.json").exists());
    // On the CPU nothing is compared.
    let (good, _, errors) = output(&mut generate(folder.path(), "cpu"));
    assert!(good && errors.is_empty(), "{errors}");
}

#[test]
fn a_damaged_probe_trusts_no_gpu() {
    let folder = shipped_with_probe(Some("{"));
    let (good, _, errors) = output(&mut generate(folder.path(), "gpu"));
    assert!(!good && errors.contains("probe.json"), "{errors}");
    let (good, ..) = output(&mut generate(folder.path(), "cpu"));
    assert!(good);
}
