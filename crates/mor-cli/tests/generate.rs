//! `mor generate` with the goldens' conversational model: routing, overflow, and wrong uses.

#![cfg(feature = "model")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens")
}

fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("m2.config.json", "config.json"),
        ("m2.weights.safetensors", "model.safetensors"),
    ] {
        fs::copy(goldens().join(from), folder.path().join(to)).unwrap();
    }
    folder
}

fn generate(folder: &Path, prompt: &[i64], count: usize, more: &[&str]) -> Output {
    let prompt: Vec<String> = prompt.iter().map(i64::to_string).collect();
    common::mor()
        .current_dir(folder)
        .args(["generate", "--model", ".", "--json", "--prompt-ids"])
        .arg(prompt.join(","))
        .args(["--max-new-tokens", &count.to_string()])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Ids, steps per token and the reason of the end.
fn generated(output: Output) -> (Vec<i64>, Vec<i64>, String) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let numbers = |value: &Value| -> Vec<i64> {
        let values = value.as_array().unwrap().iter();
        values.map(|value| value.as_i64().unwrap()).collect()
    };
    let steps = json["steps_per_token"].as_array().unwrap();
    (
        numbers(&json["generated_ids"]),
        steps.iter().flat_map(numbers).collect(),
        json["finish_reason"].as_str().unwrap().to_owned(),
    )
}

fn integers(case: &str, name: &str) -> Vec<i64> {
    let path = goldens().join(format!("m2.{case}.io.safetensors"));
    let file = mor_config::Weights::open(&path).unwrap();
    file.to_i64(name).unwrap()
}

#[test]
fn ids_and_steps_are_the_references() {
    let folder = model();
    for case in ["gen_steady", "gen_depth_changes", "gen_stops_at_eos"] {
        let expected = integers(case, "generated_ids");
        let prompt = integers(case, "prompt_ids");
        let (ids, steps, finish) = generated(generate(folder.path(), &prompt, expected.len(), &[]));
        assert_eq!(ids, expected, "{case}");
        assert_eq!(steps, integers(case, "steps_per_token"), "{case}");
        assert_eq!(finish, "length");
    }
}

#[test]
fn an_end_token_of_the_folder_ends_the_continuation() {
    let folder = model();
    let case = "gen_stops_at_eos";
    let (prompt, expected) = (
        integers(case, "prompt_ids"),
        integers(case, "generated_ids"),
    );
    let run = |ends: &str| {
        let path = folder.path().join("generation_config.json");
        fs::write(path, format!("{{\"eos_token_id\": {ends}}}")).unwrap();
        let (ids, _, finish) = generated(generate(folder.path(), &prompt, 60, &[]));
        (ids, finish)
    };
    for ends in ["95", "[7777, 95]"] {
        assert_eq!(run(ends), (expected.clone(), "stop".to_owned()));
    }
    for ends in ["null", "[]"] {
        assert_eq!(run(ends).0.len(), 60);
    }
}

#[test]
fn locked_routers_keep_the_prompts_depth() {
    let folder = model();
    let prompt = integers("gen_depth_changes", "prompt_ids");
    let run = |more: &[&str]| generated(generate(folder.path(), &prompt, 80, more));
    let (live, live_steps, _) = run(&[]);
    let (locked, locked_steps, _) = run(&["--routing", "locked"]);
    assert_ne!(live, locked);
    assert!(live_steps.iter().any(|steps| *steps != live_steps[0]));
    assert!(locked_steps.iter().all(|steps| *steps == live_steps[0]));
    let depth = live_steps[0].to_string();
    let (forced, forced_steps, _) = run(&["--depth", &depth]);
    assert_eq!((locked, locked_steps), (forced, forced_steps));
}

#[test]
fn overflow_decides_how_a_full_context_goes_on() {
    let folder = model();
    let prompt = integers("gen_steady", "prompt_ids");
    let run = |overflow: &str| {
        let more = ["--overflow", overflow];
        generated(generate(folder.path(), &prompt, 90, &more))
    };
    // 64 fit, and the last token needs not be read.
    let fitting = 64 - prompt.len() + 1;
    let (stopped, _, finish) = run("stop");
    assert_eq!((stopped.len(), finish.as_str()), (fitting, "context"));
    for overflow in ["slide", "rewind"] {
        let (ids, _, finish) = run(overflow);
        assert_eq!((ids.len(), finish.as_str()), (90, "length"));
        assert_eq!(ids[..fitting], stopped);
    }
    let (default, ..) = generated(generate(folder.path(), &prompt, 90, &[]));
    assert_eq!(default, run("slide").0);
}

#[test]
fn wrong_words_are_usage_errors() {
    let folder = model();
    for more in [
        ["--routing", "sometimes"],
        ["--overflow", "spill"],
        ["--depth", "deep"],
    ] {
        let output = generate(folder.path(), &[1, 2], 2, &more);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {error}");
        assert!(
            error.contains(more[1]) && output.stdout.is_empty(),
            "{error}"
        );
    }
    // A depth that this model has not is a failure of the command.
    let output = generate(folder.path(), &[1, 2], 2, &["--depth", "6"]);
    assert_eq!(output.status.code(), Some(1));
}
