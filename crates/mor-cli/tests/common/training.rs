//! Runs of a tiny model on the sample data, as a shell starts them.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) const RECIPE: &str = r#"
[model]
preset = "technical-10m"
vocab_size = 512
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 48

[train]
steps = 8
batch_tokens = 1024
lr = 4e-3

[train.optimizer]
kind = "adamw"
"#;

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        folder.write("recipe.toml", RECIPE);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("writable");
    }

    /// `mor train` with the sample data, changed by further arguments.
    pub(crate) fn train(&self, more: &[&str]) -> Command {
        let mut command = super::mor();
        command.arg("train");
        let mut set = |name: &str, path: PathBuf| {
            if !more.contains(&name) {
                command.arg(name).arg(path);
            }
        };
        set("--config", self.path("recipe.toml"));
        set("--data", sample("technical-sample.jsonl"));
        set("--valid", sample("technical-sample-valid.jsonl"));
        set("--tokenizer", sample("tokenizer"));
        set("--output", self.path("run"));
        command.args(more);
        command
    }
}

pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}

pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line that a failed command prints.
pub(crate) fn fail(command: &mut Command, code: i32) -> String {
    let Output { status, stderr, .. } = command.output().expect("runs");
    let errors = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(code), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    if code == 1 {
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    errors
}
