//! `mor chat` and `mor generate` with the shipped model: what is typed, and what is said when there is nothing to read.

#![cfg(feature = "model")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m")
}

/// Runs a command with `input` on its standard input: success, standard output and standard error.
fn run(command: &mut Command, input: &[u8]) -> (bool, String, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.success(), text(stdout), text(stderr))
}

fn chat(input: &[u8], more: &[&str]) -> (String, String) {
    let mut command = common::mor();
    command.arg("chat").arg("--model").arg(shipped()).args(more);
    if !more.contains(&"--max-new-tokens") {
        command.args(["--max-new-tokens", "5"]);
    }
    let (good, stdout, stderr) = run(&mut command, input);
    assert!(good, "{stderr}");
    (stdout, stderr)
}

fn generate(more: &[&str]) -> (bool, String, String) {
    let mut command = common::mor();
    command.arg("generate").arg("--model").arg(shipped());
    run(command.args(more), b"")
}

#[test]
fn a_line_that_is_not_utf8_is_answered_and_the_conversation_goes_on() {
    let (answers, notes) = chat(b"caf\xe9\r\nHow do I list files?\nnul \0 too\n", &[]);
    assert_eq!(answers.lines().count(), 3, "{answers}{notes}");
    assert_eq!(notes.matches("UTF-8").count(), 1, "{notes}");
    assert_eq!(notes.matches("steps per layer").count(), 3, "{notes}");
}

#[test]
fn a_message_that_is_too_long_is_refused_by_itself() {
    let mut input = vec![b'a'; 3 << 20];
    input.extend_from_slice(b"\n");
    input.extend_from_slice("word ".repeat(2000).as_bytes());
    input.extend_from_slice(b"\nHow do I list files?");
    let (answers, notes) = chat(&input, &[]);
    assert_eq!(answers.lines().count(), 1, "{answers}{notes}");
    assert!(notes.contains("too long for a message"), "{notes}");
    assert!(notes.contains("do not fit this model's context"), "{notes}");
}

#[test]
fn an_unknown_command_is_named_and_not_sent() {
    let (answers, notes) = chat(b"/foo bar\n/new\n/depth x\n//foo\n/etc/fstab\n", &[]);
    assert_eq!(answers.lines().count(), 2, "{answers}{notes}");
    assert!(notes.contains("/foo is no command: /new"), "{notes}");
}

#[test]
fn an_answer_without_a_word_is_said_to_be_one() {
    let (answers, notes) = chat(b"How do I list files?\n", &["--depth", "0"]);
    assert_eq!(answers, "\n");
    assert!(notes.contains("ended its answer at once"), "{notes}");
    let (_, notes) = chat(b"hi\n", &["--max-new-tokens", "0"]);
    assert!(notes.contains("no tokens were asked for"), "{notes}");
}

#[test]
fn a_continuation_without_a_word_is_said_to_be_one() {
    let (good, text, notes) = generate(&["--prompt", "The end."]);
    assert!(good && text == "\n", "{text}");
    assert!(notes.contains("ended its text at once, with <"), "{notes}");
    assert!(notes.contains("--chat"), "{notes}");
    let (good, text, notes) = generate(&["--chat", "--prompt", "How do I list files?"]);
    assert!(good && text.len() > 1 && notes.is_empty(), "{text}{notes}");
}

#[test]
fn a_prompt_that_does_not_fit_is_an_error_and_is_not_cut() {
    let long = "word ".repeat(400);
    let ids = vec!["40"; 300].join(",");
    for more in [
        &["--prompt", &long][..],
        &["--chat", "--prompt", &long],
        &["--prompt-ids", &ids],
        &["--prompt-ids", &ids, "--overflow", "slide", "--json"],
    ] {
        let (good, text, error) = generate(more);
        assert!(!good && text.is_empty(), "{text}");
        assert!(error.contains("context holds 256"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

/// A folder with the files of the shipped model, without copies where the system allows.
fn linked(folder: &Path) {
    for entry in fs::read_dir(shipped()).unwrap() {
        let entry = entry.unwrap();
        let to = folder.join(entry.file_name());
        if fs::hard_link(entry.path(), &to).is_err() {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

#[test]
fn sampling_is_as_the_models_file_says_unless_options_do() {
    let folder = tempfile::tempdir().unwrap();
    linked(folder.path());
    let file = folder.path().join("generation_config.json");
    let write = |text: &str| {
        fs::remove_file(&file).unwrap();
        fs::write(&file, text).unwrap();
    };
    let probability = |more: &[&str]| {
        let mut command = common::mor();
        command.args(["generate", "--json", "--chat", "--prompt", "hello there"]);
        command.arg("--model").arg(folder.path()).args(more);
        let (good, json, error) = run(&mut command, b"");
        assert!(good, "{error}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let ids = json["generated_ids"].as_array().unwrap().len();
        (json["probabilities"][0].as_f64().unwrap(), ids)
    };
    // One token that takes part has probability 1 where one is drawn; among all, it has its own.
    write(r#"{"do_sample": true, "top_k": 1, "max_new_tokens": 2}"#);
    assert_eq!(probability(&[]), (1.0, 2));
    assert_eq!(probability(&["--max-new-tokens", "1"]).1, 1);
    write("{}");
    let greedy = probability(&[]);
    write(r#"{"temperature": 5.0, "do_sample": null}"#);
    assert_eq!(probability(&[]), greedy);

    write(r#"{"top_p": 2}"#);
    let mut command = common::mor();
    command.args(["chat", "--model"]).arg(folder.path());
    let (good, _, error) = run(&mut command, b"");
    assert!(
        !good && error.contains("generation_config.json: `top_p` is 2"),
        "{error}"
    );
    write("{");
    let mut command = common::mor();
    command.args(["chat", "--model"]).arg(folder.path());
    let (good, _, error) = run(&mut command, b"");
    assert!(!good && error.contains("generation_config.json"), "{error}");
}

#[test]
fn no_name_of_a_file_reaches_the_terminal_raw() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("x\u{1b}]0;title\u{7}\u{9b}31m");
    fs::create_dir(&model).unwrap();
    linked(&model);
    let raw = |text: &str| {
        text.chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t')
    };
    for command in [
        &["info"][..],
        &["info", "--json"],
        &["generate", "--prompt-ids", "9999"],
    ] {
        let mut mor = common::mor();
        mor.args(command).arg("--model").arg(&model);
        let (_, text, error) = run(&mut mor, b"");
        assert!(!raw(&text) && !raw(&error), "{text:?}{error:?}");
    }
    let missing = model.join("missing");
    let mut mor = common::mor();
    mor.arg("info").arg("--model").arg(&missing);
    let (good, _, error) = run(&mut mor, b"");
    assert!(!good && !raw(&error), "{error:?}");
    assert!(
        error.contains("\\u001b]0;title\\u0007\\u009b31m"),
        "{error}"
    );
}

#[test]
fn the_folder_of_a_run_leads_to_its_model() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("model")).unwrap();
    linked(&folder.path().join("model"));
    let inner = folder.path().join("model").display().to_string();
    for command in [&["info"][..], &["chat"], &["generate", "--prompt", "hi"]] {
        let mut mor = common::mor();
        mor.args(command).arg("--model").arg(folder.path());
        let (good, _, error) = run(&mut mor, b"");
        assert!(!good && error.contains(&inner), "{error}");
    }
}
