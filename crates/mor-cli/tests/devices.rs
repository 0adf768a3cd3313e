//! The CPU, a GPU, and what happens where there is none.

#![cfg(feature = "gpu")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m")
}

fn mor(arguments: &[&str]) -> Command {
    let mut command = common::mor();
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    mor(arguments).output().expect("the program starts")
}

fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn a_token_is_one_submit_and_few_launches() {
    let model = model();
    let folder = model.to_str().expect("text");
    let shipped = ["--model", folder];
    let card = ["--preset", "technical-card", "--depth", "2"];
    let one = [
        "--preset",
        "conversational-198m",
        "--dtype",
        "f16",
        "--depth",
        "1",
    ];
    let five = [
        "--preset",
        "conversational-198m",
        "--dtype",
        "f16",
        "--depth",
        "5",
    ];
    let measure = |subject: &[&str]| {
        let rest = [
            "--device",
            "gpu",
            "--new-tokens",
            "2",
            "--prompt-tokens",
            "3",
            "--runs",
            "1",
        ];
        let all = [&["bench", "decode"], subject, &rest, &["--json"]].concat();
        let report = json(&all);
        let (steps, launches) = (
            number(&report, "block_steps_per_token"),
            number(&report, "launches_per_token"),
        );
        assert!(launches <= 7.0 * steps + 6.0, "{report}");
        assert_eq!(number(&report, "submits_per_token"), 1.0, "{report}");
        assert!(number(&report, "readbacks_per_token") <= 1.0, "{report}");
        let needed = number(&report, "needed_bytes_per_token");
        assert!(
            number(&report, "bytes_per_token") <= 1.1 * needed,
            "{report}"
        );
        report
    };
    measure(&shipped);
    measure(&card);
    let (one, five) = (measure(&one), measure(&five));
    let differ = |key: &str| number(&five, key) - number(&one, key);
    assert_eq!(differ("block_steps_per_token"), 4.0);
    let per_step = differ("launches_per_token") / 4.0;
    let beside = number(&one, "launches_per_token") - 17.0 * per_step;
    assert!(per_step >= 5.0 && (0.0..=6.0).contains(&beside), "{one}");
}

#[test]
fn both_devices_write_the_same() {
    let model = model();
    let folder = model.to_str().expect("text");
    let write = |device| {
        json(&[
            "generate",
            "--model",
            folder,
            "--prompt",
            "How do I list the files in a zip archive?",
            "--chat",
            "--max-new-tokens",
            "20",
            "--device",
            device,
            "--json",
        ])
    };
    let (cpu, gpu) = (write("cpu"), write("gpu"));
    assert_eq!(cpu["generated_ids"], gpu["generated_ids"]);
    assert!(
        cpu["device"]
            .as_str()
            .is_some_and(|name| name.contains("CPU")),
        "{cpu}"
    );
    assert_ne!(cpu["device"], gpu["device"]);
}

#[test]
fn without_a_driver_the_gpu_says_what_to_install_and_auto_takes_the_cpu() {
    let model = model();
    let folder = model.to_str().expect("text");
    let bare = |device: &str| {
        mor(&[
            "generate",
            "--model",
            folder,
            "--prompt-ids",
            "5,6",
            "--max-new-tokens",
            "2",
        ])
        .args(["--device", device])
        // Where the loader of drivers looks, instead of the system's places.
        .env("VK_DRIVER_FILES", "/nowhere.json")
        .env("VK_ICD_FILENAMES", "/nowhere.json")
        .output()
        .expect("the program starts")
    };
    let gpu = bare("gpu");
    if cfg!(target_os = "linux") {
        let errors = String::from_utf8_lossy(&gpu.stderr);
        assert_eq!(gpu.status.code(), Some(1), "{errors}");
        assert!(errors.contains("mesa-vulkan-drivers"), "{errors}");
    }
    assert!(bare("auto").status.success());
}

#[test]
fn auto_tries_both_once_and_says_which_is_faster() {
    let memory = tempfile::tempdir().expect("a folder");
    let model = model();
    let folder = model.to_str().expect("text");
    let write = |more: &[&str]| {
        let output = mor(&["generate", "--model", folder, "--prompt-ids", "5,6"])
            .args(["--max-new-tokens", "2", "--device", "auto"])
            .args(more)
            .env("MOR_CACHE_DIR", memory.path())
            .env("MOR_TRY_SOFTWARE_GPU", "1")
            .output()
            .expect("the program starts");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        errors
    };
    let first = write(&[]);
    let figures = "tokens/s on the GPU";
    assert!(
        first.contains(figures) && !first.contains("tried before"),
        "{first}"
    );
    let remembered = std::fs::read_to_string(memory.path().join("devices.json"));
    assert!(remembered.expect("a file").contains(figures));
    let second = write(&[]);
    assert!(
        second.contains("as tried before") && second.contains(figures),
        "{second}"
    );
    // Another depth is another question.
    assert!(!write(&["--depth", "1"]).contains("tried before"));
}

#[test]
fn kernels_can_be_chosen_and_misspelling_is_told() {
    let output = mor(&["devices", "--json"])
        .env("MOR_GPU_VARIANT", "workgroup")
        .output()
        .expect("the program starts");
    let devices: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(devices["variant"], "workgroup");
    assert!(!devices["adapters"].as_array().expect("a list").is_empty());
    let output = mor(&["devices", "--json"])
        .env("MOR_GPU_VARIANT", "")
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "an empty variable is not set");
    let output = mor(&["devices"])
        .env("MOR_GPU_VARIANT", "fastest")
        .output()
        .expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("MOR_GPU_VARIANT") && errors.contains("subgroup"),
        "{errors}"
    );
}

/// `mor devices` says of training what training says itself.
#[cfg(feature = "train")]
#[test]
fn devices_and_training_name_the_same_place() {
    let report: Value = serde_json::from_slice(&run(&["devices", "--json"]).stdout).expect("JSON");
    let model = model();
    let data = model.join("../../tests/data/technical-sample-valid.jsonl");
    let [model, data] = [&model, &data].map(|path| path.to_str().expect("text"));
    let output = mor(&[
        "eval", "--model", model, "--data", data, "--limit", "1", "--json",
    ])
    .env("MOR_DEVICE", "")
    .output()
    .expect("the program starts");
    let measured: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["training_auto"], measured["device"], "{report}");
}

#[cfg(feature = "train")]
#[test]
fn training_is_measured_on_a_gpu_too() {
    let bench = |more: &[&str]| {
        let all = [
            "bench",
            "train",
            "--preset",
            "technical-10m",
            "--depth",
            "1",
        ];
        let small = [
            "--batch", "1", "--seq", "4", "--steps", "1", "--device", "gpu",
        ];
        run(&[&all[..], &small, more].concat())
    };
    let output = bench(&["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let device = report["device"].as_str();
    assert!(device.is_some_and(|name| name.contains("GPU")), "{report}");
    assert!(number(&report, "tokens_per_second") > 0.0);
    let refused = bench(&["--matmul", "bf16"]);
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{errors}");
    assert!(errors.contains("--matmul"), "{errors}");
}
