//! What whole runs of a tiny model learn.

use std::path::Path;

use crate::common::*;
use mor_config::{Precision, Weights};
use mor_train::evaluate::{EvaluateDepth, Evaluator};
use mor_train::{Device, Paths, RunFolder, Trainer};
use serde_json::Value;

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
