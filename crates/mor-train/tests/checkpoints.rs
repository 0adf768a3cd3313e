//! Checkpoints: stopping, going on, damage, and runs that lead nowhere.

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::*;
use mor_train::{Device, Event, Outcome, Paths, RunFolder, Trainer};
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
    run(RECIPE, &output, false, Some(2));
    let error = trainer(RECIPE, &output, false).expect_err("in use");
    assert!(error.contains("already holds a run"), "{error}");
    let other = RECIPE.replace("lr = 4e-3", "lr = 3e-3");
    let error = trainer(&other, &output, true).expect_err("other settings");
    assert!(error.contains("other [train] settings"), "{error}");
    assert!(
        error.contains("`train.lr` was 0.004, now 0.003;"),
        "{error}"
    );
    let deeper = RECIPE.replace("num_hidden_layers = 2", "num_hidden_layers = 3");
    let error = trainer(&deeper, &output, true).expect_err("another model");
    assert!(
        error.contains("`model.num_hidden_layers` was 2, now 3;"),
        "{error}"
    );
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
    // Nor is there when they were set aside before.
    for checkpoint in &all {
        std::fs::remove_dir_all(checkpoint).expect("removable");
    }
    let error = trainer(RECIPE, &output, true).expect_err("all damaged");
    assert!(error.contains("has damaged checkpoints only"), "{error}");
}

/// One command can be repeated until a run is done.
#[test]
fn resuming_without_a_checkpoint_starts_and_says_so() {
    let root = tempfile::tempdir().expect("a folder");
    let (straight, output) = (root.path().join("straight"), root.path().join("run"));
    let text = RECIPE.replace("steps = 12", "steps = 3");
    run(&text, &straight, false, None);
    let started = trainer(&text, &output, true).expect("a run");
    let [warning] = started.warnings() else {
        panic!("one warning");
    };
    assert!(
        warning.contains("run holds no checkpoint: starting"),
        "{warning}"
    );
    drop(started);
    run(&text, &output, true, None);
    run(&text, &output, true, None);
    assert!(weights(&output) == weights(&straight), "other weights");
}

#[test]
fn figures_of_two_validation_files_are_never_compared() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let folder = RunFolder::new(&output);
    run(RECIPE, &output, false, Some(8));
    let resume = |valid: Option<&Path>| {
        let paths = Paths {
            valid: valid.map(Path::to_owned),
            ..paths(&output)
        };
        Trainer::new(recipe(RECIPE), &paths, true, &Device::flex()).expect("a run")
    };
    let same = sample("technical-sample-valid.jsonl");
    let before = resume(Some(&same)).state().best.expect("a best");
    assert!(folder.best().is_dir());

    // Easier text: each of its figures would be the best of both.
    let easy = root.path().join("easy.txt");
    std::fs::write(&easy, "a a a a a a a a ".repeat(40)).expect("writable");
    let resumed = resume(Some(&easy));
    assert_eq!(resumed.state().best, None);
    let warning = resumed.warnings().join("; ");
    assert!(
        warning.contains("other validation data") && warning.contains("step 8"),
        "{warning}"
    );
    assert!(!folder.best().exists());
    let aside = output.join(format!("earlier-best-step-{:09}", before.step));
    assert!(aside.join("model.safetensors").is_file());
    let outcome = resumed.run(&AtomicBool::new(false), &mut |_| ());
    let Outcome::Finished {
        best: Some(best), ..
    } = outcome.expect("no error")
    else {
        panic!("it was measured");
    };
    assert_eq!(best.step, 12);
    assert!(folder.best().is_dir());

    // Without any the model is the last, and nothing is the best.
    let resumed = resume(None);
    assert_eq!(
        (resumed.state().best, folder.best().exists()),
        (None, false)
    );
}

/// The same file, of which more is measured, gives other figures too.
#[test]
fn a_longer_part_of_the_validation_data_is_other_data() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let text = |rows| RECIPE.replace("ema = 0.9", &format!("validate_rows = {rows}"));
    run(&text(3), &output, false, Some(8));
    let best = |rows| {
        trainer(&text(rows), &output, true)
            .expect("a run")
            .state()
            .best
    };
    assert!(best(3).is_some());
    assert!(best(4).is_none());
}

#[test]
fn a_run_keeps_its_data_and_its_tokenizer() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let data = root.path().join("data.txt");
    let write = |text: &str, time| {
        std::fs::write(&data, text.repeat(300)).expect("writable");
        let file = std::fs::File::options()
            .append(true)
            .open(&data)
            .expect("there");
        file.set_modified(time).expect("settable");
    };
    let other = root.path().join("tokenizer");
    copy(&sample("tokenizer"), &other);
    let config = other.join("tokenizer_config.json");
    let template = std::fs::read_to_string(&config).expect("readable");
    std::fs::write(&config, template.replace("{{", "{{ '' }}{{")).expect("writable");

    let resume = |tokenizer: &Path, resume| {
        let paths = Paths {
            data: data.clone(),
            tokenizer: Some(tokenizer.to_owned()),
            ..paths(&output)
        };
        Trainer::new(recipe(RECIPE), &paths, resume, &Device::flex())
    };
    let now = std::time::SystemTime::now();
    write("seven words of text stand on here. ", now);
    let mut steps = 0;
    let stop = AtomicBool::new(false);
    let first = resume(&sample("tokenizer"), false).expect("a run");
    first
        .run(&stop, &mut |_| {
            steps += 1;
            stop.store(steps > 1, std::sync::atomic::Ordering::Relaxed);
        })
        .expect("no error");
    assert!(resume(&sample("tokenizer"), true).is_ok());
    let error = resume(&other, true)
        .expect_err("another tokenizer")
        .to_string();
    assert!(error.contains("is another tokenizer"), "{error}");
    // As long, and as old.
    write("other words of text stand on here. ", now);
    let error = resume(&sample("tokenizer"), true)
        .expect_err("other data")
        .to_string();
    assert!(error.contains("was trained on other data"), "{error}");
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
    assert!(
        error.contains("--resume would repeat that: lower train.lr"),
        "{error}"
    );
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

/// Fewer than ten steps, of which none could be taken, are no training either.
#[test]
fn a_run_of_skipped_steps_only_fails_and_leaves_no_model() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let init = root.path().join("huge");
    let text = RECIPE.replace("steps = 12", "steps = 3");
    run(&text, &output, false, Some(1));
    mor_train::export::export(&output, &init, mor_config::Precision::F32).expect("exported");
    let weights = init.join("model.safetensors");
    let config = mor_config::ModelConfig::from_dir(&init).expect("a model");
    let all = config.tensors().into_iter().map(|spec| {
        let len = spec.shape.iter().product();
        (spec.name, spec.shape, vec![f32::MAX; len])
    });
    let all: Vec<_> = all.collect();
    mor_config::save_tensors(&weights, &all, mor_config::Precision::F32).expect("writable");

    let output = root.path().join("from-huge");
    let paths = Paths {
        init: Some(init),
        ..paths(&output)
    };
    let start = Trainer::new(recipe(&text), &paths, false, &Device::flex()).expect("finite");
    let error = start.run(&AtomicBool::new(false), &mut |_| ());
    let error = error.expect_err("nothing learned").to_string();
    assert!(
        error.contains("nothing was learned: each of 3 steps was skipped"),
        "{error}"
    );
    assert!(!RunFolder::new(&output).model().exists());
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
