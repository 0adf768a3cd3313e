//! Whole runs of a tiny model on the sample data.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use mor_config::{Depth, Precision, Weights};
use mor_train::evaluate::Evaluator;
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
learning_rate = 4e-3
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
learning_rate = 4e-3
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
        output: output.to_owned(),
    }
}

fn recipe(text: &str) -> Recipe {
    Recipe::parse(text, Path::new("recipe.toml")).expect("valid")
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
                && metrics.step == 4
            {
                copy(&RunFolder::new(&output).last(), &kept);
            }
        })
        .expect("no error");
    let (expected, last) = (metrics(&output), RunFolder::new(&output).last());
    let expected_weights = weights(&output);
    std::fs::remove_dir_all(&last).expect("removable");
    copy(&kept, &last);
    std::fs::create_dir(output.join(".partial-killed")).expect("writable");
    std::fs::write(output.join(".partial-killed/model.safetensors"), "half").expect("writable");

    run(RECIPE, &output, true, None);
    assert!(metrics(&output) == expected, "other metrics");
    assert!(weights(&output) == expected_weights, "other weights");
    assert!(!output.join(".partial-killed").exists());
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
        let report = evaluator.run(Depth::Configured, |_| ()).expect("measured");
        let found = report.total.bits_per_byte();
        assert!((found - best).abs() < tolerance, "{found} is not {best}");
        assert!(report.sources.len() > 1 && report.depths[2] > 0);
        let shallow = evaluator.run(Depth::Forced(1), |_| ()).expect("measured");
        assert_eq!(shallow.depths[2], 0);
        assert!(evaluator.run(Depth::Forced(3), |_| ()).is_err());
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
        let report = evaluator.run(Depth::Configured, |_| ()).expect("measured");
        assert!(report.total.bits_per_byte().is_finite());
        // One depth for each piece of a conversation, or for each token.
        let depths: u64 = report.depths.iter().sum();
        match pooling {
            "prefix" => assert_eq!(depths, report.total.tokens),
            _ => assert!((report.total.rows..report.total.tokens).contains(&depths)),
        }
        assert_eq!(report.depths[0] + report.depths[2] + report.depths[4], 0);
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
    let other = RECIPE.replace("learning_rate = 4e-3", "learning_rate = 3e-3");
    let error = trainer(&other, &output, true).expect_err("other settings");
    assert!(error.contains("other [train] settings"), "{error}");
    // A longer budget is no other run.
    let longer = RECIPE.replace("steps = 12", "steps = 20");
    let running = trainer(&longer, &output, true).expect("same run");
    let error = trainer(RECIPE, &output, true).expect_err("in use");
    assert!(error.contains("another process is training"), "{error}");
    drop(running);

    let weights = output.join("last/model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, &bytes).expect("writable");
    let error = trainer(RECIPE, &output, true).expect_err("damaged");
    assert!(
        error.contains("model.safetensors: its contents have changed"),
        "{error}"
    );
    std::fs::write(output.join("last/state.json"), "{").expect("writable");
    let error = trainer(RECIPE, &output, true).expect_err("damaged");
    assert!(
        error.contains("state.json") && error.contains("damaged"),
        "{error}"
    );
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
    assert!(fail(RECIPE, &empty).contains("is empty"));
    let small = RECIPE.replace("vocab_size = 512", "vocab_size = 300");
    let error = fail(&small, &sample("technical-sample.jsonl"));
    assert!(
        error.contains("the tokenizer has 512 tokens, the model's vocab_size is 300"),
        "{error}"
    );
    assert!(!output.exists(), "nothing may be left half-written");
}
