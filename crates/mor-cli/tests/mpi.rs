//! Training by several processes under `mpirun`.
#![cfg(feature = "mpi")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RECIPE: &str = r#"
[model]
preset = "technical-10m"
vocab_size = 512
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 48
hidden_dropout_prob = 0.1

[train]
steps = 50
batch_rows = 4
accumulate = ACCUMULATE
lr = 4e-3
validate_every = 25

[train.optimizer]
kind = "adamw"
"#;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}

/// `mor train`, by itself or as two processes.
fn train(folder: &Path, name: &str, processes: usize, more: &[&str]) -> Command {
    let recipe = folder.join(format!("{name}.toml"));
    let accumulate = (2 / processes).to_string();
    std::fs::write(&recipe, RECIPE.replace("ACCUMULATE", &accumulate)).expect("writable");
    let mor = env!("CARGO_BIN_EXE_mor");
    let mut command = if processes == 1 {
        Command::new(mor)
    } else {
        let mut command = Command::new("mpirun");
        // Containers run as root and may have fewer cores than processes.
        command
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command.args(["--oversubscribe", "-n", &processes.to_string(), mor]);
        command
    };
    command.args(["train", "--device", "cpu", "--config"]);
    command.arg(recipe);
    command.arg("--data").arg(sample("technical-sample.jsonl"));
    command
        .arg("--valid")
        .arg(sample("technical-sample-valid.jsonl"));
    command.arg("--tokenizer").arg(sample("tokenizer"));
    command.arg("--output").arg(folder.join(name)).args(more);
    command
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("runs; mpirun is part of Open MPI");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Losses of the steps and of the validations.
fn losses(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    text.lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let loss = line["loss"].as_f64();
            loss.or(line["validation"]["loss"].as_f64())
                .expect("a loss")
        })
        .collect()
}

#[test]
fn two_processes_learn_what_one_learns_from_twice_the_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let alone = succeed(&mut train(folder, "alone", 1, &[]));
    let together = succeed(&mut train(folder, "together", 2, &[]));
    // One of them speaks for all.
    assert_eq!(alone.matches("the model is in").count(), 1);
    assert_eq!(together.matches("the model is in").count(), 1, "{together}");
    let (alone, together) = (
        losses(&folder.join("alone")),
        losses(&folder.join("together")),
    );
    assert_eq!((alone.len(), together.len()), (52, 52));
    for (step, (one, two)) in alone.iter().zip(&together).enumerate() {
        assert!((one - two).abs() < 1e-5, "step {step}: {one} and {two}");
    }
}

#[test]
fn a_process_that_dies_stops_the_others_and_leaves_a_whole_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let endless = [
        "--max-steps",
        "1000000",
        "--set",
        "train.checkpoint_steps=3",
    ];
    let mut command = train(folder, "run", 2, &endless);
    let mut job = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let waited = Instant::now();
    let checkpoints = folder.join("run/checkpoints");
    // Not one that is still being written, which has another name.
    let whole = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("step-");
    while !std::fs::read_dir(&checkpoints)
        .is_ok_and(|mut all| all.any(|entry| entry.is_ok_and(whole)))
    {
        assert!(
            waited.elapsed() < Duration::from_secs(120),
            "no checkpoint in two minutes"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    // The second of the processes that this job has started.
    let run = folder.join("run").display().to_string();
    let mut found = Command::new("pgrep");
    found.args([
        "-f",
        &format!("^{} train.*{run}", env!("CARGO_BIN_EXE_mor")),
    ]);

    let found = found.output().expect("pgrep is part of procps");
    let ids = String::from_utf8_lossy(&found.stdout).into_owned();
    let last = ids.lines().last().expect("two processes").to_owned();
    assert!(ids.lines().count() == 2, "{ids}");
    assert!(
        Command::new("kill")
            .args(["-9", &last])
            .status()
            .expect("kill exists")
            .success()
    );

    let waited = Instant::now();
    let status = loop {
        if let Some(status) = job.try_wait().expect("a child") {
            break status;
        }
        assert!(
            waited.elapsed() < Duration::from_secs(120),
            "the job goes on without one process"
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(!status.success());
    let text = std::fs::read_to_string(folder.join("run/metrics.jsonl")).expect("metrics");
    let steps = (text.lines().count() + 3).to_string();
    let printed = succeed(&mut train(
        folder,
        "run",
        2,
        &[
            "--resume",
            "--max-steps",
            &steps,
            "--set",
            "train.checkpoint_steps=3",
        ],
    ));
    assert!(printed.contains("going on after step"), "{printed}");
}

#[test]
fn what_stops_one_process_stops_all_with_one_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("none").display().to_string();
    let output = train(folder.path(), "run", 2, &["--tokenizer", &missing]);
    let mut output = output;
    let output = output.output().expect("runs");
    assert!(!output.status.success());
}
