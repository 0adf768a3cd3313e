//! The commands that run a model, as a shell meets them.

#![cfg(feature = "model")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

const CONFIG: &str = r#"{
    "model_type": "mor-technical", "vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 32,
    "routing": { "kind": "adaptive", "max_steps": 4, "halted_rows": "renormalize" }
}"#;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens")
}

/// A folder with the goldens' model.
fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    let weights = goldens().join("m1_learned.weights.safetensors");
    fs::copy(weights, folder.path().join("model.safetensors")).unwrap();
    folder
}

fn mor(folder: &Path, args: &[&str]) -> Output {
    let mut command = common::mor();
    command
        .current_dir(folder)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The one line of a command that fails as it should.
fn failure(output: Output, code: i32) -> String {
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(output.stdout.is_empty());
    if code == 1 {
        assert!(
            error.starts_with("error: ") && error.lines().count() == 1,
            "{error}"
        );
    }
    error
}

fn integers(case: &str, name: &str) -> Vec<i64> {
    let path = goldens().join(format!("m1_learned.{case}.io.safetensors"));
    mor_config::Weights::open(&path)
        .unwrap()
        .to_i64(name)
        .unwrap()
}

#[test]
fn generate_gives_the_reference_ids() {
    let folder = model();
    for case in ["gen_steady", "gen_depth_changes"] {
        let prompt: Vec<_> = integers(case, "prompt_ids")
            .iter()
            .map(i64::to_string)
            .collect();
        let args = [
            "generate",
            "--model",
            ".",
            "--max-new-tokens",
            "20",
            "--json",
            "--prompt-ids",
        ];
        let out = stdout(mor(
            folder.path(),
            &[&args[..], &[&prompt.join(",")]].concat(),
        ));
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        let numbers = |value: &serde_json::Value| -> Vec<i64> {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_i64().unwrap())
                .collect()
        };
        assert_eq!(
            numbers(&json["generated_ids"]),
            integers(case, "generated_ids")
        );
        let rows = json["steps_per_token"].as_array().unwrap();
        let steps: Vec<i64> = rows.iter().flat_map(numbers).collect();
        assert_eq!(steps, integers(case, "steps_per_token"));
        assert_eq!(json["finish_reason"], "length");
    }
}

/// Compares what `mor logits` writes with a golden case of the model in `folder`.
fn check_logits(folder: &Path, runtime: &str, case: &str) {
    let input = goldens().join(format!("{case}.io.safetensors"));
    let line = format!("logits --model . --runtime {runtime} --output out.safetensors --input");
    let mut args: Vec<&str> = line.split(' ').collect();
    args.push(input.to_str().unwrap());
    stdout(mor(folder, &args));
    let open = |path: &Path| mor_config::Weights::open(path).unwrap();
    let (actual, expected) = (open(&folder.join("out.safetensors")), open(&input));
    for name in ["logits", "steps"] {
        let shapes = [&actual, &expected].map(|file| file.shape(name).unwrap());
        assert_eq!(shapes[0], shapes[1], "{case} by {runtime}: {name}");
    }
    let steps = [&actual, &expected].map(|file| file.to_i64("steps").unwrap());
    assert_eq!(steps[0], steps[1], "{case} by {runtime}");
    let [actual, expected] = [actual, expected].map(|file| file.to_f32("logits").unwrap());
    let close = |(a, e): (&f32, &f32)| (a - e).abs() < 1e-4;
    assert!(
        actual.iter().zip(&expected).all(close),
        "{case} by {runtime}"
    );
}

#[test]
fn logits_of_the_engine_match_the_reference() {
    let folder = model();
    for case in ["b1_len1", "b1_len7", "b1_len32"] {
        check_logits(folder.path(), "engine", &format!("m1_learned.{case}"));
    }
}

#[test]
fn rows_that_the_original_would_change_by_their_neighbours_are_told_of() {
    let folder = model();
    let run = |case: &str| {
        let input = goldens().join(format!("m1_learned.{case}.io.safetensors"));
        let mut args = vec![
            "logits",
            "--model",
            ".",
            "--output",
            "out.safetensors",
            "--input",
        ];
        args.push(input.to_str().unwrap());
        let output = mor(folder.path(), &args);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run("b4_len16").contains("`halted_rows` is `renormalize`"));
    assert_eq!(run("b1_len7"), "");
    let path = folder.path().join("config.json");
    fs::write(path, CONFIG.replace("renormalize", "freeze")).unwrap();
    assert_eq!(run("b4_len16"), "");
}

#[cfg(feature = "train")]
#[test]
fn logits_of_burn_match_the_reference() {
    let folder = model();
    for case in [
        "b1_len1",
        "b1_len7",
        "b1_len32",
        "b4_len16",
        "b4_rightpad_attn",
    ] {
        check_logits(folder.path(), "burn", &format!("m1_learned.{case}"));
    }
    for (from, to) in [
        ("m2.config.json", "config.json"),
        ("m2.weights.safetensors", "model.safetensors"),
    ] {
        fs::copy(goldens().join(from), folder.path().join(to)).unwrap();
    }
    for case in ["b1_len1", "b4_len16", "b4_rightpad", "future_leak_pair"] {
        check_logits(folder.path(), "burn", &format!("m2.{case}"));
    }
}

#[test]
fn an_empty_variable_names_no_device() {
    let folder = model();
    let mut command = common::mor();
    let args = "generate --model . --prompt-ids 1,2 --max-new-tokens 1".split(' ');
    let output = command
        .current_dir(folder.path())
        .env("MOR_DEVICE", "")
        .args(args)
        .output();
    stdout(output.unwrap());
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_configuration() {
    let folder = model();
    let path = folder.path().join("config.json");
    fs::write(path, format!("\u{feff}{CONFIG}")).unwrap();
    stdout(mor(folder.path(), &["info", "--model", "."]));
}

#[test]
fn info_counts_parameters() {
    let folder = model();
    let out = stdout(mor(
        folder.path(),
        &["info", "--preset", "technical-card", "--json"],
    ));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["total_parameters"], 41_401_758);
    let out = stdout(mor(folder.path(), &["info", "--model", "."]));
    assert!(out.contains("total parameters") && out.contains("each layer chooses 0 to 4 steps"));
}

#[test]
fn bench_reports_speed_and_bandwidth() {
    let folder = model();
    let args = "bench decode --model . --threads 1 --depth 2 --new-tokens 12 --runs 1 --json";
    let out = stdout(mor(folder.path(), &args.split(' ').collect::<Vec<_>>()));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["depth"], 2.0);
    for key in [
        "tokens_per_second",
        "bytes_per_token",
        "read_bandwidth",
        "bandwidth_fraction",
    ] {
        assert!(json[key].as_f64().unwrap() > 0.0, "{key}");
    }
}

#[test]
fn failures_are_one_line() {
    let folder = model();
    let run = |line: &str| mor(folder.path(), &line.split(' ').collect::<Vec<_>>());
    let expect_code = |line: &str, part: &str, code| {
        let error = failure(run(line), code);
        assert!(error.contains(part), "{line}: {error}");
    };
    let expect = |line: &str, part: &str| expect_code(line, part, 1);
    expect("info --model nowhere", "nowhere");
    expect("generate --model . --prompt hello", "tokenizer");
    expect("generate --model . --prompt-ids 97", "vocabulary");
    expect("generate --model . --prompt-ids 1 --depth 5", "depth");
    // Values that no model takes.
    for (line, part) in [
        ("info --preset nothing", "technical-10m"),
        (
            "generate --model . --prompt-ids 1 --temperature=-1",
            "temperature",
        ),
    ] {
        expect_code(line, part, 2);
    }
    expect("chat --model .", "tokenizer");
    expect("bench decode --model . --new-tokens 100", "context");
    expect("logits --model . --input nowhere --output out", "nowhere");
    failure(run("generate --model ."), 2);
    failure(run("info"), 2);
    failure(run("bench decode --model . --threads 100000"), 2);

    let path = folder.path().join("model.safetensors");
    let weights = fs::read(&path).unwrap();
    fs::write(&path, &weights[..weights.len() / 2]).unwrap();
    expect("generate --model . --prompt-ids 1", "model.safetensors");
    fs::write(folder.path().join("config.json"), CONFIG.replace("48", "0")).unwrap();
    expect("generate --model . --prompt-ids 1", "hidden_size");
}
