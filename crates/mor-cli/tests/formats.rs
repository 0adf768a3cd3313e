//! `mor data` on what people's files are: tables, folders, other programs' files, and hostile names.
#![cfg(feature = "model")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn mor(&self, args: &[&str]) -> Output {
        let mut mor = common::mor();
        mor.current_dir(self.0.path()).args(args);
        mor.output().expect("starts")
    }

    /// Standard output and standard error of a command that succeeds.
    fn succeed(&self, args: &[&str]) -> (String, String) {
        let output = self.mor(args);
        let errors = String::from_utf8(output.stderr).expect("text");
        assert!(output.status.success(), "{args:?}: {errors}");
        (String::from_utf8(output.stdout).expect("text"), errors)
    }

    fn fail(&self, args: &[&str], code: i32) -> String {
        let output = self.mor(args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        errors
    }

    /// The rows that `mor data prepare` makes of a file, each as its turns, and its table.
    fn prepare(&self, input: &str, more: &[&str]) -> (Vec<String>, String) {
        let args = ["data", "prepare", "--output", "out.jsonl", "--input", input];
        let (table, _) = self.succeed(&[&args, more].concat());
        let text = std::fs::read_to_string(self.0.path().join("out.jsonl")).expect("written");
        let turns = |line: &str| {
            let row: Value = serde_json::from_str(line).expect("a row");
            let turns = row["messages"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|turn| {
                    let text = |key: &str| turn[key].as_str().expect("text").to_owned();
                    format!("{}:{}", &text("role")[..1], text("content"))
                });
            turns.collect::<Vec<_>>().join("|")
        };
        (text.lines().map(turns).collect(), table)
    }
}

fn line<'a>(table: &'a str, start: &str) -> &'a str {
    let found = table
        .lines()
        .find(|line| line.trim_start().starts_with(start));
    found.unwrap_or_else(|| panic!("no {start} in {table}"))
}

fn chat(question: &str, answer: &str) -> String {
    let messages = json!([
        { "role": "user", "content": question },
        { "role": "assistant", "content": answer },
    ]);
    format!("{}\n", json!({ "messages": messages }))
}

#[test]
fn every_row_that_was_read_stands_in_the_table_and_counts_in_its_percentages() {
    let folder = Folder::new();
    let calls = json!({ "messages": [
        { "role": "user", "content": "Weather?" },
        { "role": "assistant", "content": null, "tool_calls": [{ "id": "1" }] },
        { "role": "user", "content": "rain" },
        { "role": "assistant", "content": "It rains." },
    ]});
    let rated = json!({ "prompt": "p", "chosen": "c", "rejected": "r" });
    folder.write(
        "a.jsonl",
        format!("{}{calls}\n{}{rated}\n{{\n", chat("q", "a"), chat("r", "")),
    );
    folder.write("b.txt", "one\ntwo\n");
    let (rows, table) = folder.prepare("a.jsonl", &["b.txt"]);
    assert_eq!(rows, ["u:q|a:a", "u:p|a:c", "a:one", "a:two"]);
    let words = |start: &str| -> Vec<String> {
        line(&table, start)
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(words("rows "), ["rows", "7", "100.0", "%"]);
    assert_eq!(words("malformed"), ["malformed", "2", "28.6", "%"]);
    assert_eq!(words("kept"), ["kept", "4", "57.1", "%"]);
    assert!(
        line(&table, "a  ").ends_with("2 malformed, 1 without an answer"),
        "{table}"
    );
    assert!(line(&table, "b  ").contains('2'), "{table}");
    assert!(
        line(&table, "fields not used").contains("`rejected` × 1"),
        "{table}"
    );
}

#[test]
fn without_a_row_the_error_says_what_became_of_them() {
    let folder = Folder::new();
    folder.write("bad.jsonl", "{}\n{}\n");
    let args = ["data", "prepare", "--output", "out.jsonl", "--input"];
    let error = folder.fail(&[&args[..], &["bad.jsonl"]].concat(), 1);
    assert!(
        error.contains("2 malformed; the first malformed row: bad.jsonl:1: "),
        "{error}"
    );
    folder.write("unanswered.jsonl", chat("q", " "));
    let error = folder.fail(&[&args[..], &["unanswered.jsonl"]].concat(), 1);
    assert!(error.contains("1 without an answer"), "{error}");
}

#[test]
fn messages_of_weight_0_stay_so() {
    let folder = Folder::new();
    let row = json!({ "messages": [
        { "role": "user", "content": "q" }, { "role": "assistant", "content": "a", "weight": 0 },
        { "role": "user", "content": "r" }, { "role": "assistant", "content": "b", "weight": 1 },
    ]});
    folder.write("a.jsonl", format!("{row}\n"));
    for _ in 0..2 {
        folder.prepare("a.jsonl", &[]);
        let text = std::fs::read_to_string(folder.0.path().join("out.jsonl")).expect("written");
        let row: Value = serde_json::from_str(&text).expect("a row");
        assert_eq!(row["messages"][1]["weight"], 0);
        assert!(row["messages"][3].get("weight").is_none());
        folder.write("a.jsonl", text);
    }
}

#[test]
fn tables_become_conversations_or_are_refused_with_their_columns() {
    let folder = Folder::new();
    folder.write(
        "t.csv",
        "instruction,input,output\n\"What is two, and two?\",,\"Four.\"\nName a colour,,Red\nx\n",
    );
    let (rows, table) = folder.prepare("t.csv", &[]);
    assert_eq!(
        rows,
        ["u:What is two, and two?|a:Four.", "u:Name a colour|a:Red"]
    );
    assert!(line(&table, "malformed").contains('1'));
    folder.write(
        "faq",
        "\u{FEFF}Nr;Frage;Antwort\r\n1;\"Wo?\nWann?\";Hier\r\n2;Wer?;Ich\r\n",
    );
    let columns = ["--columns", "user=Frage,assistant=Antwort"];
    folder.write("faq.csv", "Nr;F;A\n1;Wer?;Ich\n");
    let refused = [
        "data", "prepare", "--input", "faq.csv", "--output", "x.jsonl",
    ];
    let error = folder.fail(&refused, 1);
    assert!(
        error.contains("faq.csv: CSV with the columns `Nr`, `F`, `A`"),
        "{error}"
    );
    assert_eq!(
        folder
            .prepare("faq.csv", &["--columns", "user=F,assistant=A"])
            .0,
        ["u:Wer?|a:Ich"]
    );
    assert_eq!(folder.prepare("faq", &columns).0.len(), 2);
    folder.fail(&[&refused[..], &["--columns", "user=F"]].concat(), 2);

    let (info, _) = folder.succeed(&["data", "info", "--input", "t.csv"]);
    let width = |start: &str| info.lines().find(|it| it.starts_with(start)).map(str::len);
    assert!(
        width("  rows").is_some() && width("  rows") == width("  Alpaca rows"),
        "{info}"
    );
    assert!(
        info.contains("a table with the columns `instruction`, `input`, `output`"),
        "{info}"
    );
    let error = folder.fail(&["data", "info", "faq.csv"], 1);
    assert!(error.contains("the columns `Nr`"), "{error}");
    folder.fail(&["data", "info"], 2);
    let train = [
        "tokenizer",
        "train",
        "--vocab-size",
        "280",
        "--output",
        "t",
        "--input",
    ];
    folder.succeed(&[&train[..], &["t.csv"]].concat());
    let error = folder.fail(&[&train[..], &["faq.csv"]].concat(), 1);
    assert!(error.contains("the columns `Nr`"), "{error}");
}

#[test]
fn what_is_evidently_something_else_is_refused_by_every_command_that_reads_data() {
    let folder = Folder::new();
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    for (name, bytes, found) in [
        (
            "utf16.txt",
            wide("hello there\nplain words\n"),
            "this is UTF-16; convert it with iconv",
        ),
        ("utf16.jsonl", wide(&chat("q", "a")), "this is UTF-16"),
        (
            "t.parquet",
            b"PAR1 and words\n".to_vec(),
            "this is Parquet;",
        ),
        (
            "book.txt",
            b"PK\x03\x04\x14\0 xl/workbook.xml".to_vec(),
            "this is an Excel workbook",
        ),
        (
            "page.txt",
            b"<!DOCTYPE html>\n<p>words".to_vec(),
            "this is HTML",
        ),
    ] {
        folder.write(name, bytes);
        for command in [
            &["data", "prepare", "--output", "out", "--input"][..],
            &["data", "info"],
            &["tokenizer", "train", "--output", "out", "--input"],
        ] {
            let error = folder.fail(&[command, &[name]].concat(), 1);
            let expected = format!("error: {name}: {found}");
            assert!(
                error.starts_with(&expected) && error.lines().count() == 1,
                "{error}"
            );
        }
    }
    assert!(!folder.0.path().join("out").exists());
}

#[test]
fn folders_are_read_file_by_file_with_a_table_of_what_was_found() {
    let folder = Folder::new();
    folder.write("d/b.jsonl", chat("q2", "a2"));
    folder.write("d/a.csv", "question,answer\nq1,a1\n");
    folder.write("d/c/d.txt", "a line\n");
    folder.write("d/x.png", b"\x89PNG\r\n\x1a\n");
    folder.write("d/.hidden", "x");
    folder.write("e/x.png", b"\x89PNG\r\n\x1a\n");
    let (rows, _) = folder.prepare("d", &[]);
    assert_eq!(rows, ["u:q1|a:a1", "u:q2|a:a2", "a:a line"]);
    let (_, found) = folder.succeed(&["data", "info", "d"]);
    assert!(
        found.starts_with("d: 3 files to read, 1 skipped, 1 hidden"),
        "{found}"
    );
    assert!(
        line(&found, "x.png").ends_with("this is a PNG image; leave it out"),
        "{found}"
    );
    let (text, _) = folder.succeed(&["data", "prepare", "--input", "d", "--output", "o", "--json"]);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["folders"][0]["read"][2]["format"], "plain text");
    let error = folder.fail(&["data", "prepare", "--input", "e", "--output", "o"], 1);
    assert!(
        error.contains("e: a folder without files to read; 1 skipped"),
        "{error}"
    );
}

#[test]
fn running_text_and_what_exceeds_a_context_are_counted() {
    let folder = Folder::new();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer");
    let tokenizer = tokenizer.display().to_string();
    folder.write("a.jsonl", chat("q", &"word ".repeat(100)) + &chat("q", "a"));
    folder.write("book.txt", "A line.\n".repeat(20_000));
    let args = [
        "data", "prepare", "--input", "a.jsonl", "book.txt", "--output", "o.tokens",
    ];
    let context = ["--tokenizer", &tokenizer, "--context", "16"];
    let (table, _) = folder.succeed(&[&args[..], &context].concat());
    assert!(line(&table, "rows").contains("100.0 %"), "{table}");
    assert!(
        line(&table, "pieces of running text").contains('3'),
        "{table}"
    );
    assert!(
        line(&table, "book").contains("(running text, in pieces)"),
        "{table}"
    );
    let written = line(&table, "o.tokens");
    assert!(
        written.contains("longer than the context of 16: 1 rows, which lose"),
        "{written}"
    );
}

#[test]
fn nothing_in_a_file_reaches_the_terminal_raw() {
    let folder = Folder::new();
    let evil = "\u{1b}]0;title\u{7}evil\u{9b}31m\nrows 9";
    let mut row: Value = serde_json::from_str(&chat("q", "a")).expect("a row");
    row["source"] = evil.into();
    row[evil] = 1.into();
    let role = json!({ "messages": [{ "role": evil, "content": "q" }] });
    folder.write(
        "a.jsonl",
        format!("{row}\n{role}\n{}\n", json!({ evil: 1 })),
    );
    folder.write("b.csv", format!("question,answer,\"{evil}\"\nq,a,x\n"));
    folder.write("c.csv", format!("name,\"{evil}\"\nq,a\n"));
    folder.write("d/\u{1b}[31m.txt", "x\n");
    for args in [
        &[
            "data", "prepare", "--output", "o", "--input", "a.jsonl", "b.csv", "d",
        ][..],
        &[
            "data", "prepare", "--json", "--output", "o", "--input", "a.jsonl", "b.csv", "d",
        ],
        &["data", "info", "a.jsonl", "b.csv", "d"],
        &["data", "info", "--json", "a.jsonl", "b.csv", "d"],
        &["data", "info", "c.csv"],
        &["data", "info", "\u{1b}[31m"],
        &[
            "data", "prepare", "--strict", "--output", "o", "--input", "a.jsonl",
        ],
        &[
            "tokenizer",
            "train",
            "--output",
            "t",
            "--input",
            "a.jsonl",
            "d",
        ],
    ] {
        let output = folder.mor(args);
        for stream in [output.stdout, output.stderr] {
            let text = String::from_utf8(stream).expect("text");
            let raw = |c: char| c.is_control() && c != '\n';
            assert!(!text.contains(raw), "{args:?}: {text:?}");
            assert!(
                !text.lines().any(|line| line.starts_with("rows 9")),
                "{args:?}: {text}"
            );
        }
    }
}

#[test]
fn more_threads_than_any_machine_has_are_not_started() {
    let folder = Folder::new();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer");
    folder.write("a.jsonl", chat("q", "a"));
    let mut mor = common::mor();
    mor.current_dir(folder.0.path())
        .env("RAYON_NUM_THREADS", "100000");
    mor.args([
        "data",
        "prepare",
        "--input",
        "a.jsonl",
        "--output",
        "o.tokens",
        "--tokenizer",
    ]);
    assert!(mor.arg(tokenizer).status().expect("starts").success());
}

#[cfg(feature = "train")]
#[test]
fn to_measure_no_rows_is_wrong_use() {
    let folder = Folder::new();
    let error = folder.fail(&["eval", "--model", "m", "--data", "d", "--limit", "0"], 2);
    assert!(error.contains("--limit"), "{error}");
}

#[cfg(feature = "train")]
#[test]
fn training_and_measuring_read_and_refuse_the_same_files() {
    let folder = Folder::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = root.join("models/technical-10m").display().to_string();
    let recipe = root
        .join("configs/technical-10m.toml")
        .display()
        .to_string();
    let train = [
        "train",
        "--config",
        &recipe,
        "--tokenizer",
        &model,
        "--output",
        "r",
        "--data",
    ];
    let eval = ["eval", "--json", "--model", &model, "--data"];
    folder.write("t.parquet", b"PAR1 and words\n");
    folder.write("people.csv", "name,age\nBob,3\n");
    folder.write("d/t.csv", "question,answer\nq,a\n");
    folder.write("d/photo.png", b"\x89PNG\r\n\x1a\n");
    for (name, found) in [
        ("t.parquet", "this is Parquet"),
        ("people.csv", "the columns `name`, `age`"),
    ] {
        for command in [&train[..], &eval] {
            let error = folder.fail(&[command, &[name]].concat(), 1);
            assert!(error.contains(name) && error.contains(found), "{error}");
        }
    }
    let (text, found) = folder.succeed(&[&eval[..], &["d"]].concat());
    assert!(found.contains("1 files to read, 1 skipped"), "{found}");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["conversations"], 1, "{report}");
}
