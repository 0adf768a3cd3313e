//! What `mor train` and `mor eval` refuse, and how.
#![cfg(feature = "train")]

mod common;

use common::mor;
use common::training::*;

#[test]
fn refuses_what_cannot_work_in_one_line() {
    let folder = Folder::new();
    folder.write("empty.jsonl", "");
    folder.write(
        "zero.toml",
        &RECIPE.replace("batch_tokens = 1024", "batch_tokens = 0"),
    );
    folder.write(
        "narrow.toml",
        &RECIPE.replace("vocab_size = 512", "vocab_size = 400"),
    );
    let path = |name: &str| folder.path(name).display().to_string();
    let cases = [
        (["--data", &path("none.jsonl")], "none.jsonl"),
        (["--data", &path("empty.jsonl")], "has no text"),
        (["--config", &path("none.toml")], "none.toml"),
        (
            ["--config", &path("zero.toml")],
            "`train.batch_tokens` is 0",
        ),
        (["--config", &path("narrow.toml")], "has 512 tokens"),
        (["--tokenizer", &path("none")], "none"),
    ];
    for (arguments, expected) in cases {
        let error = fail(&mut folder.train(&arguments), 1);
        assert!(error.contains(expected), "{error}");
    }
    fail(
        &mut folder.train(&["--max-steps", "3", "--minutes", "3"]),
        2,
    );
    fail(mor().arg("train"), 2);
    assert!(!folder.path("run").exists(), "nothing half-written");

    let missing = path("none");
    let error = fail(
        mor().args(["eval", "--model", &missing, "--data", &missing]),
        1,
    );
    assert!(error.contains("no such folder"), "{error}");
    let error = fail(
        mor().args(["export", "--run", &missing, "--output", &path("out")]),
        1,
    );
    assert!(error.contains("holds no checkpoint"), "{error}");
}

/// Whatever option a wrong value stands in, the exit code is that of wrong use.
#[test]
fn wrong_values_are_wrong_use() {
    let folder = Folder::new();
    for (arguments, expected) in [
        (&["--set", "train.lr=-1"][..], "`train.lr` is -1"),
        (&["--set", "train.l=1"], "unknown field `l`"),
        (&["--set", "train.lr=fast"], "--set"),
        (&["--set", "train.lr.x=1"], "is not a table"),
        (&["--set", "model.layers=1"], "`model.layers` is unknown"),
        (
            &["--set", "model.num_hidden_layers=0"],
            "`num_hidden_layers` is 0",
        ),
        (&["--set", "model.preset=none"], "`model.preset` is `none`"),
        (
            &["--set", "train.seed=18446744073709551615"],
            "end at 9223372036854775807",
        ),
        (&["--set", "train.seed"], "expected KEY=VALUE"),
        (&["--max-steps", "0"], "--max-steps"),
        (&["--minutes", "0"], "--minutes"),
        (&["--minutes", "nan"], "--minutes"),
        (&["--device", ""], "--device"),
    ] {
        let error = fail(&mut folder.train(arguments), 2);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    // What the file says is no option.
    folder.write("wrong.toml", &RECIPE.replace("lr = 4e-3", "lr = -1"));
    let wrong = folder.path("wrong.toml").display().to_string();
    let error = fail(&mut folder.train(&["--config", &wrong]), 1);
    assert!(error.contains("line 13: `train.lr` is -1"), "{error}");
    assert!(!folder.path("run").exists());

    let device = |value: &str, code| {
        let none = folder.path("none").display().to_string();
        let mut command = folder.train(&["--config", &none]);
        fail(command.env("MOR_DEVICE", value), code)
    };
    // An empty variable is one that is not set: the next problem is told.
    assert!(device("", 1).contains("none"));
    assert!(device("fast", 2).contains("fast"));
}

/// The case of a fine-tuning on long questions.
#[test]
fn a_run_that_would_learn_nothing_does_not_begin() {
    let folder = Folder::new();
    let question = "Is it so, or is it not? ".repeat(60);
    let messages = serde_json::json!([
        {"role": "user", "content": question},
        {"role": "assistant", "content": "Yes."},
    ]);
    let row = serde_json::json!({ "messages": messages }).to_string() + "\n";
    folder.write("long.jsonl", &row);
    let long = folder.path("long.jsonl").display().to_string();
    let learn = [
        "--data",
        &long,
        "--set",
        "train.learn=assistant",
        "--set",
        "train.context=64",
    ];
    let error = fail(&mut folder.train(&learn), 1);
    assert!(error.contains("nothing of its answers is left"), "{error}");
    assert!(!folder.path("run").exists());

    let short = serde_json::json!({"messages": [
        {"role": "user", "content": "So?"}, {"role": "assistant", "content": "Yes."},
    ]});
    folder.write("long.jsonl", &format!("{row}{short}\n"));
    let output = folder.train(&learn).output().expect("runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(
        errors.contains(
            "1 conversation is longer than the context of 64 tokens; nothing of its answers is left"
        ),
        "{errors}"
    );
}

#[test]
fn weights_that_are_not_finite_are_neither_trained_nor_measured() {
    let folder = Folder::new();
    succeed(&mut folder.train(&["--max-steps", "1"]));
    let weights = folder.path("run/model/model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("a model");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, bytes).expect("writable");
    let model = folder.path("run/model").display().to_string();
    let next = folder.path("next").display().to_string();
    let error = fail(&mut folder.train(&["--init", &model, "--output", &next]), 1);
    assert!(error.contains("holds NaN"), "{error}");
    assert!(!folder.path("next/model").exists());
    let data = sample("technical-sample-valid.jsonl").display().to_string();
    let error = fail(mor().args(["eval", "--model", &model, "--data", &data]), 1);
    assert!(
        error.contains("tensor `") && error.contains("holds NaN"),
        "{error}"
    );
}
