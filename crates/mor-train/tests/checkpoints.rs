//! Checkpoints: stopping, going on, damage, and runs that lead nowhere.

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::*;
use mor_train::{Event, Outcome, RunFolder};
use serde_json::Value;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("writable");
    }
}

/// Changes one bit in the middle of a checkpoint's file.
fn damage(checkpoint: &Path, file: &str) {
    let path = checkpoint.join(file);
    let mut bytes = std::fs::read(&path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // Hard links of the same file elsewhere stay as they are.
    std::fs::remove_file(&path).expect("removable");
    std::fs::write(&path, &bytes).expect("writable");
}

#[test]
fn an_interrupted_run_equals_a_straight_one() {
    let root = tempfile::tempdir().expect("a folder");
    let (straight, stopped) = (root.path().join("straight"), root.path().join("stopped"));
    let dropout = "vocab_size = 512\nhidden_dropout_prob = 0.05";
    let text = RECIPE.replace("vocab_size = 512", dropout);
    run(&text, &straight, false, None);
    let outcome = run(&text, &stopped, false, Some(5));
    assert_eq!(outcome, Outcome::Interrupted { step: 5 });
    run(&text, &stopped, true, None);
    assert!(metrics(&straight) == metrics(&stopped), "other metrics");
    // Going on with a finished run changes nothing.
    run(&text, &stopped, true, None);
    assert!(metrics(&straight) == metrics(&stopped), "other metrics");
    assert!(weights(&straight) == weights(&stopped), "other weights");
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let kept = root.path().join("kept");
    // The checkpoint of step 4, with the metrics of all steps and an unfinished folder beside it:
    // what a kill during a later save leaves.
    let stop = AtomicBool::new(false);
    let first = trainer(RECIPE, &output, false).expect("a run");
    first
        .run(&stop, &mut |event| {
            if let Event::Validation { metrics, .. } = event
                && metrics.step == 8
            {
                copy(&newest(&output), &kept);
            }
        })
        .expect("no error");
    let (expected, expected_weights) = (metrics(&output), weights(&output));
    let checkpoints = output.join("checkpoints");
    std::fs::remove_dir_all(&checkpoints).expect("removable");
    copy(&kept, &RunFolder::new(&output).checkpoint(4));
    let partial = checkpoints.join(".partial-killed");
    std::fs::create_dir(&partial).expect("writable");
    std::fs::write(partial.join("model.safetensors"), "half").expect("writable");

    run(RECIPE, &output, true, None);
    assert!(metrics(&output) == expected, "other metrics");
    assert!(weights(&output) == expected_weights, "other weights");
    assert!(!partial.exists());
}

#[test]
fn reports_what_is_wrong_with_a_run_folder() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let error = trainer(RECIPE, &output, true).expect_err("nothing to resume");
    assert!(error.contains("holds no checkpoint"), "{error}");
    run(RECIPE, &output, false, Some(2));
    let error = trainer(RECIPE, &output, false).expect_err("in use");
    assert!(error.contains("already holds a run"), "{error}");
    let other = RECIPE.replace("lr = 4e-3", "lr = 3e-3");
    let error = trainer(&other, &output, true).expect_err("other settings");
    assert!(error.contains("other [train] settings"), "{error}");
    // A longer budget is no other run.
    let longer = RECIPE.replace("steps = 12", "steps = 20");
    let running = trainer(&longer, &output, true).expect("same run");
    let error = trainer(RECIPE, &output, true).expect_err("in use");
    assert!(error.contains("another process is training"), "{error}");
    drop(running);
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_used() {
    let root = tempfile::tempdir().expect("a folder");
    let (straight, output) = (root.path().join("straight"), root.path().join("run"));
    run(RECIPE, &straight, false, None);
    run(RECIPE, &output, false, Some(10));
    let found = RunFolder::new(&output).checkpoints();
    let names: Vec<_> = found.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(names, ["step-000000010", "step-000000008"]);

    damage(&found[0], "optimizer.safetensors");
    let resumed = trainer(RECIPE, &output, true).expect("an older checkpoint");
    assert_eq!(resumed.state().step, 8);
    let [warning] = resumed.warnings() else {
        panic!("one warning");
    };
    assert!(
        warning.contains(
            "step-000000010: the checkpoint is damaged: optimizer.safetensors has changed"
        ) && warning.contains("going on from the one after step 8"),
        "{warning}"
    );
    drop(resumed);
    run(RECIPE, &output, true, None);
    assert!(weights(&output) == weights(&straight), "other weights");
    assert!(output.join("checkpoints/damaged-step-000000010").is_dir());

    // With every checkpoint damaged there is nothing to go on from.
    let mut all = RunFolder::new(&output).checkpoints();
    all.push(RunFolder::new(&output).best());
    for checkpoint in &all {
        damage(checkpoint, "state.json");
    }
    let error = trainer(RECIPE, &output, true).expect_err("all damaged");
    assert!(error.contains("has damaged checkpoints only"), "{error}");
}

#[test]
fn keeps_as_many_checkpoints_as_asked_and_the_best_apart() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let text = RECIPE.replace("ema = 0.9", "checkpoint_steps = 3\nkeep = 3");
    run(&text, &output, false, None);
    let found = RunFolder::new(&output).checkpoints();
    let names: Vec<_> = found.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(
        names,
        ["step-000000012", "step-000000009", "step-000000008"]
    );
    assert!(RunFolder::new(&output).best().join("SHA256SUMS").is_file());
}

/// A loss that is not a number skips the step; ten in a row end the run and leave the batch to look at.
#[test]
fn gives_up_after_ten_steps_without_a_finite_loss() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let text = RECIPE
        .replace("lr = 4e-3", "lr = 1e30\nclip_norm = 0")
        .replace("ema = 0.9\n", "");
    let text = text.replace("steps = 12", "steps = 40");
    let mut skipped = 0;
    let result =
        trainer(&text, &output, false)
            .expect("a run")
            .run(&AtomicBool::new(false), &mut |event| {
                if let Event::Step { metrics, .. } = event {
                    skipped += u32::from(metrics.skipped);
                }
            });
    let error = result.expect_err("diverges").to_string();
    assert!(error.contains("in 10 steps in a row"), "{error}");
    assert!(skipped >= 10);
    let batch = std::fs::read_dir(&output)
        .expect("readable")
        .flatten()
        .find(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("diverged-step-")
        })
        .expect("the batch");
    let rows: Value =
        serde_json::from_slice(&std::fs::read(batch.path()).expect("readable")).expect("JSON");
    assert!(
        rows[0]["text"]
            .as_str()
            .is_some_and(|text| text.contains("<user>"))
    );
}

/// A kill between the two steps of saving: the checkpoint is there, but has not become the best yet.
#[test]
fn a_checkpoint_that_was_to_become_the_best_does() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    run(RECIPE, &output, false, Some(8));
    let folder = RunFolder::new(&output);
    let sums = |dir: &Path| std::fs::read(dir.join("SHA256SUMS")).expect("checksums");
    let newest = sums(&newest(&output));
    assert_eq!(sums(&folder.best()), newest, "the loss has not fallen");
    std::fs::remove_dir_all(folder.best()).expect("removable");
    drop(trainer(RECIPE, &output, true).expect("a run"));
    assert_eq!(sums(&folder.best()), newest);
}
