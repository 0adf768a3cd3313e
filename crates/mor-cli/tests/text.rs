//! `mor tokenizer` and `mor data` as a person uses them: from raw rows to a vocabulary and back to every byte.
#![cfg(feature = "model")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/technical-sample.jsonl")
}

/// Runs `mor` in `folder` with `input` on its standard input.
fn mor(folder: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = common::mor()
        .current_dir(folder)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A command that does not read its input closes it.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("ends")
}

fn succeed(folder: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let output = mor(folder, args, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    output.stdout
}

/// The one line that a failed command prints.
fn fail(folder: &Path, args: &[&str], code: i32) -> String {
    let output = mor(folder, args, b"");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
    errors
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn a_learnt_vocabulary_gives_back_every_byte_and_no_text_is_a_special_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let sample = sample().display().to_string();
    let train = [
        "tokenizer",
        "train",
        "--input",
        &sample,
        "--vocab-size",
        "400",
        "--json",
        "--output",
    ];
    let first = json(&succeed(folder.path(), &[&train[..], &["a"]].concat(), b""));
    assert_eq!(first["report"]["vocab_size"], 400);
    succeed(folder.path(), &[&train[..], &["b"]].concat(), b"");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let read = |dir: &str| std::fs::read(folder.path().join(dir).join(file)).expect("written");
        assert_eq!(read("a"), read("b"), "the same input gives the same {file}");
    }

    let text = "<eos><assistant>tabs\t\r\n\u{0} ünïcödé 日本語 🦀";
    let ids = succeed(
        folder.path(),
        &["tokenizer", "encode", "--model", "a", "-"],
        text.as_bytes(),
    );
    let smallest = String::from_utf8_lossy(&ids)
        .split_whitespace()
        .map(|id| id.parse::<u32>().expect("an id"))
        .min();
    assert!(
        smallest >= Some(14),
        "the first fourteen ids are special tokens"
    );
    let back = succeed(
        folder.path(),
        &["tokenizer", "decode", "--model", "a", "-"],
        &ids,
    );
    assert_eq!(back, text.as_bytes());

    let named = [
        "tokenizer",
        "decode",
        "--special",
        "--model",
        "a",
        "0,1,2,3,4,5,6,7,8,9,10,11,12,13",
    ];
    assert_eq!(
        String::from_utf8(succeed(folder.path(), &named, b"")).expect("text"),
        "<pad><unk><bos><eos><system><user><assistant><|endoftext|><|newline|><|tab|><|code|><|/code|><|math|><|/math|>"
    );
    let unknown = fail(
        folder.path(),
        &["tokenizer", "decode", "--model", "a", "400"],
        1,
    );
    assert!(unknown.contains("400"), "{unknown}");
}

#[test]
fn prepared_rows_are_filtered_reworded_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let row = |question: &str, answer: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"{question}"}},{{"role":"assistant","content":"{answer}"}}],"source":"tldr","licence":"CC-BY-4.0"}}"#
        )
    };
    let asked = row(
        "How do I show the names of all the files in an archive with `tar`?",
        "`tar --list --file archive.tar`",
    );
    let rows =
        [&asked, &row("Too short", "yes"), "not a row", &asked].map(|row| format!("{row}\n"));
    std::fs::write(folder.path().join("raw.jsonl"), rows.concat()).expect("written");
    std::fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/technical-rewrites.toml"),
        folder.path().join("rules.toml"),
    )
    .expect("copied");

    let prepare = [
        "data",
        "prepare",
        "--input",
        "raw.jsonl",
        "--preset",
        "technical",
    ];
    let rest = [
        "--rewrites",
        "rules.toml",
        "--json",
        "--output",
        "out.jsonl",
    ];
    let report = json(&succeed(
        folder.path(),
        &[&prepare[..], &rest].concat(),
        b"",
    ));
    let counts = &report["report"];
    for (name, count) in [
        ("rows", 4),
        ("kept", 1),
        ("too_short", 1),
        ("duplicate", 1),
        ("malformed", 1),
    ] {
        assert_eq!(counts[name], count, "{name}");
    }
    let out = std::fs::read_to_string(folder.path().join("out.jsonl")).expect("written");
    let copies: u64 = ["tool left out", "tool not quoted"]
        .iter()
        .map(|name| report["copies"][name].as_u64().expect("a count"))
        .sum();
    assert_eq!(out.lines().count() as u64, 1 + copies);
    assert_eq!(out.lines().next(), Some(asked.as_str()));
    for line in out.lines() {
        assert_eq!(
            json(line.as_bytes())["messages"][1]["content"],
            "`tar --list --file archive.tar`"
        );
    }

    let strict = fail(
        folder.path(),
        &[&prepare[..], &["--strict", "--output", "strict.jsonl"]].concat(),
        1,
    );
    assert!(strict.contains("raw.jsonl:3: "), "{strict}");
    assert!(!folder.path().join("strict.jsonl").exists());
}
