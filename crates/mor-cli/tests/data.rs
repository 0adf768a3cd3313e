//! `mor data` as a person uses it: from published datasets to rows, tokens and a split.
#![cfg(feature = "model")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

fn data(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
    folder.join(name).display().to_string()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mor(&self, args: &[&str]) -> Output {
        common::mor()
            .current_dir(self.0.path())
            .args(args)
            .output()
            .expect("starts")
    }

    fn succeed(&self, args: &[&str]) -> String {
        let output = self.mor(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.succeed(&[args, &["--json"]].concat())).expect("JSON")
    }

    fn fail(&self, args: &[&str], code: i32) -> String {
        let output = self.mor(args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{errors}");
        errors
    }

    /// Writes rows with these questions.
    fn rows(&self, name: &str, questions: impl Iterator<Item = String>) {
        let row = |question: String| {
            let answer = format!("Answer to {question}");
            let messages = [("user", question), ("assistant", answer)];
            let messages = messages
                .map(|(role, content)| serde_json::json!({ "role": role, "content": content }));
            format!("{}\n", serde_json::json!({ "messages": messages }))
        };
        std::fs::write(self.path(name), questions.map(row).collect::<String>()).expect("written");
    }

    /// The first messages of the rows of a file.
    fn questions(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).expect("written");
        text.lines()
            .map(|line| {
                let row: Value = serde_json::from_str(line).expect("a row");
                row["messages"][0]["content"]
                    .as_str()
                    .expect("text")
                    .to_owned()
            })
            .collect()
    }
}

#[test]
fn published_shapes_become_rows_with_sources() {
    let folder = Folder::new();
    let inputs = [
        "sharegpt.json",
        "hh-rlhf.jsonl",
        "alpaca.json",
        "openai.jsonl",
    ]
    .map(|name| data(&format!("formats/{name}")));
    let mut args = vec!["data", "prepare", "--output", "out.jsonl", "--input"];
    args.extend(inputs.iter().map(String::as_str));
    let report = folder.json(&args);
    let counts = &report["report"];
    assert_eq!(
        (&counts["kept"], &counts["unanswered"]),
        (&7.into(), &2.into())
    );
    assert_eq!(counts["malformed"], 3);
    assert_eq!(report["sources"]["sharegpt"]["unanswered"], 1);
    assert_eq!(report["sources"]["alpaca"]["kept"], 2);
    assert_eq!(report["sources"]["sums"]["rows"], 1);
    assert_eq!(folder.questions("out.jsonl").len(), 7);

    let table = folder.succeed(&args);
    let line = table
        .lines()
        .find(|line| line.starts_with("hh-rlhf"))
        .expect("a line");
    assert!(line.contains("1 without an answer"), "{line}");
}

#[test]
fn weights_and_duplicates() {
    let folder = Folder::new();
    let numbers = |range: std::ops::Range<u32>| range.map(|n| format!("Question {n}?"));
    folder.rows("a.jsonl", numbers(0..100).chain(numbers(0..50)));
    folder.rows("b.jsonl", numbers(100..600));
    let args = [
        "data",
        "prepare",
        "--dedup",
        "--output",
        "out.jsonl",
        "--input",
    ];
    let report = folder.json(&[&args[..], &["a.jsonl=2", "b.jsonl=0.5"]].concat());
    assert_eq!(report["report"]["duplicate"], 50);
    let left_out = report["sources"]["b"]["weight"].as_u64().expect("a count");
    assert!((200..300).contains(&left_out), "{left_out}");
    let written = folder.questions("out.jsonl");
    assert_eq!(written.len() as u64, 2 * 100 + 500 - left_out);
    assert!(numbers(0..100).all(|it| written.iter().filter(|&other| *other == it).count() == 2));

    let again = |seed| {
        folder.succeed(&[&args[..], &["b.jsonl=0.5", "--seed", seed]].concat());
        folder.questions("out.jsonl")
    };
    assert_eq!(
        again("0"),
        written[200..],
        "what is chosen depends on row and seed alone"
    );
    assert_ne!(again("1"), written[200..]);
    folder.fail(&[&args[..], &["b.jsonl=0"]].concat(), 2);
}

#[test]
fn a_split_keeps_conversations_and_their_copies_together() {
    let folder = Folder::new();
    // Each question three times: as it is, in another case, and as what a rewrite makes of another.
    let questions = (0..400).flat_map(|n| {
        [
            format!("How is {n} made now?"),
            format!("how is {n}  made now?"),
            format!("How is {n} made?"),
        ]
    });
    folder.rows("a.jsonl", questions);
    let rules = "[[copy]]\nname = 'short'\nrules = [{ find = ' now', replace = '' }]";
    std::fs::write(folder.path("rules.toml"), rules).expect("written");
    let report = folder.json(&[
        "data",
        "prepare",
        "--input",
        "a.jsonl=2",
        "--rewrites",
        "rules.toml",
        "--output",
        "train.jsonl",
        "--valid",
        "valid.jsonl",
        "--valid-share",
        "0.2",
    ]);
    let key = |text: &String| {
        text.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase()
    };
    let keys = |name: &str| -> std::collections::HashSet<_> {
        folder.questions(name).iter().map(key).collect()
    };
    let (train, valid) = (keys("train.jsonl"), keys("valid.jsonl"));
    assert!(train.is_disjoint(&valid));
    assert_eq!(train.len() + valid.len(), 800);
    assert!((110..210).contains(&valid.len()), "{}", valid.len());
    assert!(report["copies_left_out"].as_u64() > Some(0));
    let count = folder.questions("valid.jsonl").len() as u64;
    assert_eq!(report["valid"]["rows"], count);

    let error = folder.fail(
        &[
            "data",
            "prepare",
            "--input",
            "a.jsonl",
            "--output",
            "b.jsonl",
            "--valid",
            "c.jsonl",
            "--valid-share",
            "0.000001",
        ],
        1,
    );
    assert!(error.contains("raise --valid-share"), "{error}");
    assert!(!folder.path("b.jsonl").exists() && !folder.path("c.jsonl").exists());
}

#[test]
fn token_files_are_written_shown_and_checked() {
    let folder = Folder::new();
    let (sharegpt, tokenizer) = (data("formats/sharegpt.json"), data("tokenizer"));
    std::fs::write(
        folder.path("book.txt"),
        "One line.\nAnother.\n".repeat(9000),
    )
    .expect("written");
    let args = [
        "data",
        "prepare",
        "--input",
        &sharegpt,
        "book.txt",
        "--output",
        "out.tokens",
    ];
    let error = folder.fail(&args, 2);
    assert!(error.contains("give --tokenizer"), "{error}");
    let report = folder.json(&[&args[..], &["--tokenizer", &tokenizer]].concat());
    assert_eq!(report["train"]["sources"]["sharegpt"]["documents"], 2);
    assert_eq!(report["train"]["sources"]["book"]["bytes"], 9000 * 19);

    let twice = [
        "data",
        "prepare",
        "--input",
        "book.txt=2.5",
        "--output",
        "b.tokens",
        "--tokenizer",
        &tokenizer,
    ];
    let twice = &folder.json(&twice)["train"]["sources"]["book"];
    let pieces = report["train"]["sources"]["book"]["documents"]
        .as_u64()
        .expect("a count");
    let count = twice["documents"].as_u64().expect("a count");
    assert!(
        (2 * pieces..=3 * pieces).contains(&count),
        "{count} of {pieces}"
    );

    let info = folder.json(&["data", "info", "out.tokens", &sharegpt, "book.txt"]);
    assert_eq!(info[0]["tokens"], report["train"]["tokens"]);
    assert_eq!(info[0]["sources"], report["train"]["sources"]);
    assert_eq!(info[1]["format"], "a JSON array");
    assert_eq!(
        (&info[1]["rows"], &info[1]["malformed"]),
        (&3.into(), &2.into())
    );
    assert_eq!(info[1]["schemas"]["ShareGPT"], 3);
    assert_eq!(info[2]["format"], "plain text");
    assert_eq!(info[2]["bytes"], 9000 * 19);
    let text = folder.succeed(&["data", "info", "out.tokens"]);
    assert!(
        text.contains("checksum verified") && text.contains("source sharegpt"),
        "{text}"
    );

    let error = folder.fail(
        &[
            "data",
            "prepare",
            "--input",
            "out.tokens",
            "--output",
            "x.jsonl",
        ],
        1,
    );
    assert!(error.contains("a token file"), "{error}");
    let mut bytes = std::fs::read(folder.path("out.tokens")).expect("written");
    bytes[200] ^= 1;
    std::fs::write(folder.path("out.tokens"), bytes).expect("written");
    let error = folder.fail(&["data", "info", "out.tokens"], 1);
    assert!(error.contains("out.tokens: damaged"), "{error}");
}
