//! Documentation must not name commands or options that do not exist.

#![cfg(all(feature = "train", feature = "serve"))]

use std::fs;
use std::path::Path;
use std::process::Command;

/// The files whose commands people type.
const FILES: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "BENCHMARKS.md",
    "CONTRIBUTING.md",
    "docs/selftest.md",
    "models/technical-10m/README.md",
];

/// The arguments of every `mor …` command in the code blocks of a Markdown text.
fn commands(markdown: &str) -> Vec<Vec<String>> {
    let mut in_block = false;
    let mut found = Vec::new();
    // A command may go on after a backslash.
    for line in markdown.replace("\\\n", " ").lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let line = line.trim_start().trim_start_matches("$ ");
        if let Some(arguments) = line.strip_prefix("mor ").filter(|_| in_block) {
            found.push(split(arguments));
        }
    }
    found
}

/// Splits as a shell does, as far as this documentation goes: quotes, comments, pipes.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if matches!(c, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None if word.is_none() && matches!(c, '#' | '|' | '>') => break,
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_documented_command_exists_with_its_options() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut seen = 0;
    for file in FILES {
        // The model's card comes with the model.
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue;
        };
        for arguments in commands(&text) {
            // `--help` in the last place: everything before it is parsed, nothing is done.
            let output = Command::new(env!("CARGO_BIN_EXE_mor"))
                .args(&arguments)
                .arg("--help")
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{file}: `mor {}`: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
            seen += 1;
        }
    }
    assert!(seen >= 8, "the README should show the main commands");
}

#[test]
fn commands_are_found_in_code_blocks_only() {
    let text = "mor no\n```sh\n$ mor bench decode \\\n  --threads 1\ncargo xtask demo\nmor chat  # talk\n\
                mor generate --prompt \"a 'b' #c\" | head\n```\n";
    assert_eq!(
        commands(text),
        [
            vec!["bench", "decode", "--threads", "1"],
            vec!["chat"],
            vec!["generate", "--prompt", "a 'b' #c"],
        ]
    );
}
