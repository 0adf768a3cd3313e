//! Documentation must not name tasks or files that do not exist.

use std::fs;

use clap::Parser;

use crate::{Cli, tools};

/// The documents at the root that name them.
const FILES: [&str; 4] = [
    "README.md",
    "ARCHITECTURE.md",
    "BENCHMARKS.md",
    "CONTRIBUTING.md",
];

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
    for file in FILES {
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

/// Paths from the root that stand between backticks, but for patterns and those with a placeholder such as NAME.
fn paths(markdown: &str) -> Vec<&str> {
    const ROOTS: [&str; 5] = [
        "crates/",
        "shaders/",
        "configs/",
        "tests/data/",
        "tests/goldens/",
    ];
    let is_path = |span: &&str| {
        ROOTS.iter().any(|root| span.starts_with(root))
            && !span.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '…'))
            && !span.contains("NAME")
    };
    // Every second piece stands between backticks.
    let spans = markdown.split('`').skip(1).step_by(2);
    spans.filter(is_path).collect()
}

#[test]
fn paths_are_found_between_backticks() {
    let text = "`crates/a.rs` crates/b.rs `tests/data/c`, `src/d.rs`\n```sh\nls crates/e\n```\n\
                `crates/NAME.rs` `shaders/*.wgsl` `shaders/f.wgsl`";
    assert_eq!(
        paths(text),
        ["crates/a.rs", "tests/data/c", "shaders/f.wgsl"]
    );
}

#[test]
fn every_documented_file_exists() {
    let mut seen = 0;
    for file in FILES {
        let text = fs::read_to_string(tools::root().join(file)).unwrap();
        for path in paths(&text) {
            assert!(tools::root().join(path).exists(), "{file}: {path}");
            seen += 1;
        }
    }
    assert!(seen >= 20, "CONTRIBUTING.md should say where things are");
}
