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

/// A tokenizer larger than the preset's vocabulary makes that larger.
#[test]
fn the_vocabulary_is_a_large_tokenizers_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let tokenizer = dir.path().join("tokenizer");
    std::fs::create_dir(&tokenizer).expect("writable");
    let read = |name: &str| std::fs::read(sample("tokenizer").join(name)).expect("there");
    let mut json: Value = serde_json::from_slice(&read("tokenizer.json")).expect("JSON");
    let vocab = json["model"]["vocab"].as_object_mut().expect("a table");
    for id in vocab.len()..9000 {
        let digits = id.to_string();
        let letters = digits.bytes().map(|digit| char::from(digit - b'0' + b'a'));
        vocab.insert(format!("Ġ{}", letters.collect::<String>()), id.into());
    }
    std::fs::write(tokenizer.join("tokenizer.json"), json.to_string()).expect("writable");
    let config = tokenizer.join("tokenizer_config.json");
    std::fs::write(config, read("tokenizer_config.json")).expect("writable");

    let output = dir.path().join("run");
    let paths = Paths {
        tokenizer: Some(tokenizer),
        ..paths(&output)
    };
    let start = |text: &str| Trainer::new(recipe(text), &paths, false, &Device::flex());
    let free = RECIPE.replace("vocab_size = 512\n", "");
    let made = start(&free).expect("a run");
    assert_eq!(made.model_config().vocab_size, 9000);
    drop(made);
    let error = start(RECIPE).expect_err("too small").to_string();
    assert!(error.contains("--set model.vocab_size=9000"), "{error}");
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

/// Conversations whose answers lie beyond the context.
#[test]
fn what_the_context_leaves_nothing_of_is_left_out_and_counted() {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("run");
    let row = |question: &str| {
        let message = |role: &str, text: &str| serde_json::json!({"role": role, "content": text});
        let messages = [
            message("user", question),
            message("assistant", "Yes, it is so."),
        ];
        serde_json::json!({ "messages": messages }).to_string() + "\n"
    };
    let (short, long) = (row("Is it?"), row(&"Is it so, or is it not? ".repeat(40)));
    let data = root.path().join("data.jsonl");
    let start = |rows: &[&String], changes: &str| {
        let rows: String = rows.iter().map(|row| row.as_str()).collect();
        std::fs::write(&data, rows).expect("writable");
        let paths = Paths {
            data: data.clone(),
            ..paths(&output)
        };
        let text = RECIPE.replace("ema = 0.9", changes);
        Trainer::new(recipe(&text), &paths, false, &Device::flex())
    };
    let assistant = "learn = \"assistant\"";
    let error = start(&[&long, &long], assistant)
        .expect_err("nothing")
        .to_string();
    let expected = "nothing to learn from: 2 conversations are longer than the context of 96 tokens; nothing of their \
                    answers is left";
    assert!(error.contains(expected), "{error}");
    assert!(!output.exists(), "nothing may be left half-written");

    let made = start(&[&short, &long, &short], assistant).expect("two are left");
    let fit = made.train_data().fit();
    assert_eq!((fit.left, fit.beyond, fit.cut), (2, 1, 0));
    let notes = made.train_data().notes();
    assert!(
        notes[0].contains("1 conversation is longer than the context"),
        "{notes:?}"
    );
    drop(made);

    // Where all is learned, what is lost is counted.
    let made = start(&[&short, &long], "learn = \"all\"").expect("both");
    let fit = made.train_data().fit();
    let tokens = made.train_data().tokens();
    assert_eq!((fit.left, fit.beyond, fit.cut), (2, 0, 1));
    assert!(fit.tokens_lost > 100 && fit.tokens_lost < tokens, "{fit:?}");
    let notes = made.train_data().notes();
    assert!(
        notes[0].contains(&format!("{} tokens are not used", fit.tokens_lost)),
        "{notes:?}"
    );
    drop(made);

    // Parts without an answer are no steps that learn nothing.
    let split = format!("{assistant}\noverlong = \"split\"");
    let made = start(&[&long], &split).expect("its end");
    let data = made.train_data();
    assert_eq!((data.fit().left, data.fit().tokens_lost), (1, 0));
    assert_eq!(data.rows_of(0).count(), 1);
}

#[test]
fn token_files_are_checked_before_anything_is_made_of_them() {
    let root = tempfile::tempdir().expect("a folder");
    let (path, whole) = (root.path().join("a.tokens"), root.path().join("whole"));
    let tokenizer = mor_text::Tokenizer::from_dir(&sample("tokenizer")).expect("a tokenizer");
    let inputs = [sample("technical-sample.jsonl")];
    let options = mor_text::tokens::TokenizeOptions::default();
    mor_text::tokens::tokenize(&inputs, &tokenizer, &path, &options, |_| ()).expect("written");
    let start = |output: &Path, valid: Option<&Path>| {
        let paths = Paths {
            data: valid.map_or(path.clone(), |_| sample("technical-sample.jsonl")),
            valid: valid.map(Path::to_owned),
            ..paths(output)
        };
        Trainer::new(recipe(RECIPE), &paths, false, &Device::flex())
    };
    assert!(start(&whole, None).is_ok());
    let model = root.path().join("model");
    run(
        &RECIPE.replace("steps = 12", "steps = 1"),
        &model,
        false,
        None,
    );

    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[4096..4100].fill(0);
    std::fs::write(&path, bytes).expect("writable");
    let evaluator = Evaluator::load(
        &RunFolder::new(&model).model(),
        &path,
        None,
        &Device::flex(),
    );
    for error in [
        start(&root.path().join("run"), None)
            .expect_err("damaged")
            .to_string(),
        start(&root.path().join("run"), Some(&path))
            .expect_err("damaged")
            .to_string(),
        evaluator.expect_err("damaged").to_string(),
    ] {
        assert!(error.contains("a.tokens: damaged: its checksum"), "{error}");
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
