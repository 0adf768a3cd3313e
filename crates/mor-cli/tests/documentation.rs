//! Documentation must not name commands or options that do not exist.

#![cfg(feature = "train")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Every `mor …` command in the code blocks of a Markdown text, split into words.
fn commands(markdown: &str) -> Vec<Vec<String>> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let line = line.trim_start().trim_start_matches("$ ");
        if in_block && line.starts_with("mor ") {
            found.push(line.split_whitespace().map(str::to_owned).collect());
        }
    }
    found
}

/// What `mor WORDS --help` prints, or `None` when it fails.
fn help(words: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_mor"))
        .args(words)
        .arg("--help")
        .output()
        .unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The words that name a subcommand: those before the first option or value.
fn subcommand(words: &[String]) -> Vec<&str> {
    const NESTED: [&str; 3] = ["tokenizer", "data", "bench"];
    let levels = match words.get(1) {
        Some(first) if NESTED.contains(&first.as_str()) => 2,
        _ => 1,
    };
    words
        .iter()
        .skip(1)
        .take(levels)
        .map(String::as_str)
        .collect()
}

#[test]
fn every_documented_command_exists_with_its_options() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages: HashMap<Vec<String>, String> = HashMap::new();
    let mut seen = 0;
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "BENCHMARKS.md",
        "models/technical-10m/README.md",
    ] {
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue;
        };
        for words in commands(&text) {
            let line = words.join(" ");
            let name = subcommand(&words);
            let key = name.iter().map(|&word| word.to_owned()).collect();
            let page = pages.entry(key).or_insert_with(|| {
                help(&name).unwrap_or_else(|| panic!("{file}: `{line}`: no such command"))
            });
            for word in words.iter().filter(|word| word.starts_with("--")) {
                let option = word.split('=').next().unwrap_or(word);
                let known = page
                    .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
                    .any(|found| found == option);
                assert!(known, "{file}: `{line}`: no option {option}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 8, "the README should show the main commands");
}

#[test]
fn commands_are_found_in_code_blocks_only() {
    let text = "mor nope\n```sh\n$ mor bench decode --threads 1\ncargo xtask demo\n```\n";
    let found = commands(text);
    assert_eq!(
        found,
        [["mor", "bench", "decode", "--threads", "1"].map(str::to_owned)]
    );
    assert_eq!(subcommand(&found[0]), ["bench", "decode"]);
    let words = ["mor", "info", "models/x"].map(str::to_owned);
    assert_eq!(subcommand(&words), ["info"]);
}
