//! Whole runs of a tiny model on the sample data.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use mor_config::{Precision, Weights};
use mor_train::evaluate::{EvaluateDepth, Evaluator};
use mor_train::{Device, Event, Outcome, Paths, Recipe, RunFolder, Trainer};
use serde_json::Value;

/// Much that could upset a resumed run is switched on: a moving average, random depths, gradient
/// accumulation. Dropout joins in one test only, because its noise comes from a generator that the
/// whole process shares.
const RECIPE: &str = r#"
[model]
preset = "technical-10m"
vocab_size = 512
hidden_size = 48
num_hidden_layers = 2
num_attention_heads = 4
intermediate_size = 96
max_position_embeddings = 96

[train]
steps = 12
batch_tokens = 768
accumulate = 2
lr = 4e-3
validate_every = 4
ema = 0.9

[[train.depth]]
from = 0.0
weights = [0.0, 1.0, 1.0]

[train.optimizer]
kind = "muon"
"#;

const CONVERSATIONAL: &str = r#"
[model]
preset = "conversational-198m"
vocab_size = 512
hidden_size = 48
num_hidden_layers = 2
num_attention_heads = 4
intermediate_size = 96
max_position_embeddings = 96
pad_token_id = 0

[model.routing]
pooling = "POOLING"

[train]
steps = 6
batch_tokens = 768
lr = 4e-3
validate_every = 6

[train.optimizer]
kind = "adamw"
"#;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}

fn paths(output: &Path) -> Paths {
    Paths {
        data: sample("technical-sample.jsonl"),
        valid: Some(sample("technical-sample-valid.jsonl")),
        tokenizer: Some(sample("tokenizer")),
        init: None,
        output: output.to_owned(),
    }
}

fn recipe(text: &str) -> Recipe {
    Recipe::parse(text, Path::new("recipe.toml"), &[]).expect("valid")
}

fn trainer(text: &str, output: &Path, resume: bool) -> Result<Trainer, String> {
    Trainer::new(recipe(text), &paths(output), resume, &Device::flex())
        .map_err(|error| error.to_string())
}

#[test]
fn the_vocabulary_is_the_tokenizers_unless_the_recipe_says_otherwise() {
    let dir = tempfile::tempdir().expect("a folder");
    let free = RECIPE.replace("vocab_size = 512\n", "");
    let made = trainer(&free, &dir.path().join("free"), false).expect("a run");
    assert_eq!(made.model_config().vocab_size, 512);

    let padded = RECIPE.replace("vocab_size = 512", "vocab_size = 576");
    let made = trainer(&padded, &dir.path().join("padded"), false).expect("a run");
    assert_eq!(made.model_config().vocab_size, 576);

    for other in ["vocab_size = 8192", "vocab_size = 511"] {
        let text = RECIPE.replace("vocab_size = 512", other);
        let refused = trainer(&text, &dir.path().join("other"), false);
        let Err(error) = refused else {
            panic!("took another model's tokenizer");
        };
        assert!(error.contains("the tokenizer has 512 tokens"), "{error}");
    }
}

/// Runs to the end, or until `stop_after` steps are done.
fn run(text: &str, output: &Path, resume: bool, stop_after: Option<u64>) -> Outcome {
    let stop = AtomicBool::new(false);
    let trainer = trainer(text, output, resume).expect("a run");
    let outcome = trainer.run(&stop, &mut |event| {
        if let Event::Step { metrics, .. } = event
            && Some(metrics.step) == stop_after
        {
            stop.store(true, Ordering::Relaxed);
        }
    });
    outcome.expect("no error")
}

/// The metrics without what a clock decides.
fn metrics(output: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(RunFolder::new(output).metrics()).expect("metrics");
    text.lines()
        .map(|line| {
            let mut value: Value = serde_json::from_str(line).expect("JSON");
            if let Value::Object(map) = &mut value {
                map.remove("seconds");
                map.remove("tokens_per_second");
            }
            value
        })
        .collect()
}

fn weights(output: &Path) -> Vec<u8> {
    let model = RunFolder::new(output).model().join("model.safetensors");
    std::fs::read(model).expect("exported")
}

/// The newest checkpoint; the one being written is not there yet when a validation is reported.
fn newest(output: &Path) -> PathBuf {
    let checkpoints = RunFolder::new(output).checkpoints();
    checkpoints.into_iter().next().expect("a checkpoint")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("writable");
    }
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
fn learns_the_sample() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let text = RECIPE
        .replace("steps = 12", "steps = 120")
        .replace("validate_every = 4", "validate_every = 60");
    run(&text, &output, false, None);
    let loss = |line: &Value| line["loss"].as_f64();
    let losses: Vec<f64> = metrics(&output).iter().filter_map(loss).collect();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!((5.9..6.6).contains(&first), "ln 512 is 6.24, found {first}");
    assert!(last < 4.4, "{last}");

    // What was exported is what was measured, in both precisions.
    let best = metrics(&output)
        .iter()
        .filter_map(|line| line["validation"]["bits_per_byte"].as_f64())
        .fold(f64::INFINITY, f64::min);
    let half = root.path().join("half");
    mor_train::export::export(&output, &half, Precision::F16).expect("exported");
    for (model, tolerance) in [(RunFolder::new(&output).model(), 1e-6), (half, 2e-3)] {
        let valid = sample("technical-sample-valid.jsonl");
        let evaluator = Evaluator::load(&model, &valid, None, &Device::flex()).expect("a model");
        let report = evaluator
            .run(EvaluateDepth::Configured, |_| ())
            .expect("measured");
        let found = report.total.bits_per_byte();
        assert!((found - best).abs() < tolerance, "{found} is not {best}");
        assert!(report.sources.len() > 1 && report.total.depths[2] > 0);
        let shallow = evaluator
            .run(EvaluateDepth::Forced(1), |_| ())
            .expect("measured");
        assert_eq!(shallow.total.depths[2], 0);
        assert!(evaluator.run(EvaluateDepth::Forced(3), |_| ()).is_err());
    }
}

/// The same loop serves the conversational model, whose router learns from pseudo-classes.
#[test]
fn trains_and_measures_a_conversational_model() {
    let root = tempfile::tempdir().expect("a folder");
    for pooling in ["real", "prefix"] {
        let output = root.path().join(pooling);
        let text = CONVERSATIONAL.replace("POOLING", pooling);
        run(&text, &output, false, None);
        let losses: Vec<f64> = metrics(&output)
            .iter()
            .filter_map(|line| line["loss"].as_f64())
            .collect();
        assert!(losses.len() == 6 && losses.iter().all(|loss| loss.is_finite()));
        assert!(losses[5] < losses[0], "{losses:?}");

        let model = RunFolder::new(&output).model();
        let trained = Weights::open(&model.join("model.safetensors")).expect("weights");
        let start = mor_model::Model::new(&recipe(&text).model, &Device::flex(), 1);
        for (name, _, start) in start.expect("valid").to_tensors() {
            assert_ne!(trained.to_f32(&name).expect("the tensor"), start, "{name}");
        }

        let valid = sample("technical-sample-valid.jsonl");
        let evaluator = Evaluator::load(&model, &valid, Some(6), &Device::flex());
        let evaluator = evaluator.expect("a model");
        let report = evaluator
            .run(EvaluateDepth::Configured, |_| ())
            .expect("measured");
        assert!(report.total.bits_per_byte().is_finite());
        // One depth for each piece of a conversation, or for each token.
        let depths: u64 = report.total.depths.iter().sum();
        match pooling {
            "prefix" => assert_eq!(depths, report.total.tokens),
            _ => assert!((report.total.documents..report.total.tokens).contains(&depths)),
        }
        assert_eq!(
            report.total.depths[0] + report.total.depths[2] + report.total.depths[4],
            0
        );
    }
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

/// With 16-bit products a gradient out of range lowers the loss scale instead of ending the run.
#[test]
fn scales_the_loss_of_16_bit_products() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let text = RECIPE.replace("ema = 0.9", "matmul = \"f16\"\nloss_scale = 1e10");
    let text = text.replace("steps = 12", "steps = 30");
    run(&text, &output, false, None);
    let lines = metrics(&output);
    let scales: Vec<f64> = lines
        .iter()
        .filter_map(|line| line["loss_scale"].as_f64())
        .collect();
    assert!(scales[0] == 1e10 && scales[29] < 1e10, "{scales:?}");
    let skipped = lines.iter().filter(|line| line["skipped"] == true).count();
    assert!((1..15).contains(&skipped), "{skipped}");
    let losses: Vec<f64> = lines
        .iter()
        .filter_map(|line| line["loss"].as_f64())
        .collect();
    assert!(losses[29] < losses[0] - 0.3, "{losses:?}");
}

/// The routers of a technical model learn, unless told not to.
#[test]
fn technical_routers_learn_where_steps_pass_them_a_gradient() {
    let root = tempfile::tempdir().expect("a folder");
    let adaptive = RECIPE
        .replace("max_position_embeddings = 96", "max_position_embeddings = 96\n[model.routing]\nkind = \"adaptive\"\npooling = \"prefix\"")
        .replace("[[train.depth]]\nfrom = 0.0\nweights = [0.0, 1.0, 1.0]\n", "[train.router]\nstraight_through = LEARNS\n");
    for learns in ["true", "false"] {
        let output = root.path().join(learns);
        let text = adaptive.replace("LEARNS", learns);
        run(&text, &output, false, None);
        let trained = Weights::open(&newest(&output).join("model.safetensors")).expect("weights");
        let start = mor_model::Model::new(&recipe(&text).model, &Device::flex(), 1).expect("valid");
        let mut routers = 0;
        for (name, _, start) in start.to_tensors() {
            if name.contains(".router.") {
                routers += 1;
                let moved = trained.to_f32(&name).expect("the tensor") != start;
                assert_eq!(moved.to_string(), learns, "{name}");
            }
        }
        assert_eq!(routers, 8);
    }
}

#[test]
fn reports_unusable_data_and_tokenizers() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let empty = root.path().join("empty.jsonl");
    std::fs::write(&empty, "\n").expect("writable");
    let fail = |text: &str, data: &Path| {
        let paths = Paths {
            data: data.to_owned(),
            ..paths(&output)
        };
        let error = Trainer::new(recipe(text), &paths, false, &Device::flex())
            .expect_err("unusable")
            .to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let missing = root.path().join("missing.jsonl");
    assert!(fail(RECIPE, &missing).contains("missing.jsonl"));
    assert!(fail(RECIPE, &empty).contains("has no text"));
    let small = RECIPE.replace("vocab_size = 512", "vocab_size = 300");
    let error = fail(&small, &sample("technical-sample.jsonl"));
    assert!(
        error.contains("the tokenizer has 512 tokens, the model's vocab_size is 300"),
        "{error}"
    );
    assert!(!output.exists(), "nothing may be left half-written");
}
