//! Documentation must not name tasks that do not exist.

use std::fs;

use clap::Parser;

use crate::{Cli, tools};

/// Every `cargo xtask …` command in the code blocks of a Markdown text, split into words.
fn commands(markdown: &str) -> Vec<Vec<String>> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let line = line.trim_start().trim_start_matches("$ ");
        if in_block && line.starts_with("cargo xtask") {
            let command = line.split(" #").next().unwrap_or(line);
            found.push(command.split_whitespace().map(str::to_owned).collect());
        }
    }
    found
}

#[test]
fn commands_are_found_in_code_blocks_only() {
    let text = "`cargo xtask nope`\n```sh\n$ cargo xtask demo --port 0  # opens\nls\n```\n";
    assert_eq!(
        commands(text),
        [["cargo", "xtask", "demo", "--port", "0"].map(str::to_owned)]
    );
}

#[test]
fn every_documented_task_exists() {
    let mut seen = 0;
    for file in ["README.md", "ARCHITECTURE.md", "BENCHMARKS.md"] {
        let text = fs::read_to_string(tools::root().join(file)).unwrap();
        for words in commands(&text) {
            // The first two words stand for the program's own name.
            if let Err(error) = Cli::try_parse_from(&words[1..]) {
                panic!("{file}: `{}`: {error}", words.join(" "));
            }
            seen += 1;
        }
    }
    assert!(seen >= 2, "the README should start with two tasks");
}
