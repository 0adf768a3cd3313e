//! `mor import` and `mor export`, as a shell meets them.

#![cfg(feature = "model")]

mod common;
#[path = "../../mor-import/tests/plain/mod.rs"]
mod plain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use mor_config::{ModelConfig, Precision, Weights, save_tensors};
use mor_engine::{DecodeOptions, Decoder, LoadOptions, Model, Probe, WeightPrecision};
use safetensors::{Dtype, tensor::TensorView};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests")
        .join(name)
}

/// Runs `mor` in a folder; words of the line are separated by spaces, and `{name}` is a file of the tests' data.
fn mor(folder: &Path, line: &str) -> Output {
    let words = line.split(' ').map(|word| {
        let name = word
            .strip_prefix('{')
            .and_then(|word| word.strip_suffix('}'));
        name.map_or(PathBuf::from(word), data)
    });
    common::mor()
        .current_dir(folder)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn success(folder: &Path, line: &str) -> (String, String) {
    let output = mor(folder, line);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{line}: {stderr}");
    (stdout, stderr)
}

/// The error of a command that fails as it should, and leaves nothing behind.
fn failure(folder: &Path, line: &str, code: i32) -> String {
    let before = fs::read_dir(folder).unwrap().count();
    let output = mor(folder, line);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{line}: {error}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), before, "{line}");
    error
}

const TECHNICAL: &str =
    "import technical --weights {goldens/m1_learned.weights.safetensors} --heads 4 --output model";

/// Largest difference of a model's logits from the golden ones.
fn difference_of_logits(folder: &Path, model: &str) -> f32 {
    let golden = "{goldens/m1_learned.b1_len7.io.safetensors}";
    success(
        folder,
        &format!("logits --model {model} --input {golden} --output out.safetensors"),
    );
    let logits = |path: &Path| Weights::open(path).unwrap().to_f32("logits").unwrap();
    let actual = logits(&folder.join("out.safetensors"));
    let expected = logits(&data("goldens/m1_learned.b1_len7.io.safetensors"));
    assert_eq!(actual.len(), expected.len());
    let pairs = actual.iter().zip(&expected);
    pairs.map(|(a, e)| (a - e).abs()).fold(0.0, f32::max)
}

#[test]
fn an_imported_technical_model_gives_the_golden_logits() {
    let folder = tempfile::tempdir().unwrap();
    let (stdout, _) = success(folder.path(), TECHNICAL);
    assert!(
        stdout.contains("mor-technical") && stdout.contains("3 layers of width 48"),
        "{stdout}"
    );
    assert!(difference_of_logits(folder.path(), "model") < 1e-4);

    let generation = fs::read(folder.path().join("model/generation_config.json")).unwrap();
    let generation: serde_json::Value = serde_json::from_slice(&generation).unwrap();
    assert_eq!(generation["pad_token_id"], 0);
    assert_eq!(generation["max_length"], 32);
}

#[test]
fn an_imported_conversational_model_has_the_golden_weights() {
    let folder = tempfile::tempdir().unwrap();
    let weights = "{goldens/m2.weights.safetensors}";
    success(
        folder.path(),
        &format!(
            "import conversational --weights {weights} --config {{goldens/m2.config.json}} --eos-id 95 --output model"
        ),
    );
    let model = folder.path().join("model");
    let config = ModelConfig::from_dir(&model).unwrap();
    let golden = data("goldens/m2.config.json");
    let expected = ModelConfig::from_json(&fs::read(&golden).unwrap(), &golden).unwrap();
    assert_eq!(config, expected);
    let imported = Weights::open(&model.join("model.safetensors")).unwrap();
    let original = Weights::open(&data("goldens/m2.weights.safetensors")).unwrap();
    for spec in config.tensors() {
        assert_eq!(
            imported.raw(&spec.name).unwrap(),
            original.raw(&spec.name).unwrap()
        );
    }
    let generation = fs::read_to_string(model.join("generation_config.json")).unwrap();
    assert!(generation.contains("95"), "{generation}");
    success(folder.path(), "info --model model");

    // Heads and padding without a configuration, and smaller weights.
    let line = format!(
        "import conversational --weights {weights} --heads 4 --pad-id 94 --context 64 --dtype q8 --output q8"
    );
    success(folder.path(), &line);
    let quantized = Weights::open(&folder.path().join("q8/model.safetensors")).unwrap();
    assert!(quantized.file_len() * 2 < imported.file_len());
    let error = failure(
        folder.path(),
        &format!("import conversational --weights {weights} --output other"),
        2,
    );
    assert!(error.contains("--pad-id"), "{error}");
}

/// Each kind of positions, from the command line: the plain loops of `mor-import`'s tests say what is right.
#[test]
fn every_kind_of_positions_goes_through_import_logits_and_generate() {
    let ids = [5_u32, 17, 3, 28, 0, 9, 11, 4];
    for (kind, seed, name) in [
        (plain::Kind::Learned, 8, "learned"),
        (plain::Kind::Sinusoidal, 7, "sinusoidal"),
        (plain::Kind::Rotary, 7, "rotary"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let original = plain::Original::new(kind, seed);
        let mut tensors = original.tensors();
        let mut table = |name: &str, shape: &[usize], values: Vec<f32>| {
            let shape = shape.to_vec();
            tensors.push((format!("embeddings.pos_encoding.{name}"), shape, values));
        };
        match kind {
            plain::Kind::Learned => {}
            plain::Kind::Sinusoidal => {
                let rows = plain::CONTEXT;
                table("pe", &[1, rows, plain::DIM], plain::sinusoids(rows));
            }
            plain::Kind::Rotary => {
                let frequencies = plain::frequencies(10_000.0);
                table("inv_freq", &[frequencies.len()], frequencies);
            }
        }
        let weights = folder.path().join("original.safetensors");
        save_tensors(&weights, &tensors, Precision::F32).unwrap();
        let heads = plain::HEADS;
        let line = format!(
            "import technical --weights original.safetensors --heads {heads} --output model"
        );
        let (stdout, _) = success(folder.path(), &line);
        assert!(stdout.contains(&format!("{name} positions")), "{stdout}");
        success(folder.path(), "export --model model --output exported");

        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|id| i64::from(*id).to_le_bytes())
            .collect();
        let view = TensorView::new(Dtype::I64, vec![1, ids.len()], &bytes).unwrap();
        let input = safetensors::serialize([("input_ids", view)], None).unwrap();
        fs::write(folder.path().join("ids.safetensors"), input).unwrap();
        let outcome = original.forward(&ids);
        let expected: Vec<f64> = outcome.logits.concat();
        let prompt = ids.map(|id| id.to_string()).join(",");
        for model in ["model", "exported"] {
            success(
                folder.path(),
                &format!("logits --model {model} --input ids.safetensors --output out.safetensors"),
            );
            let output = Weights::open(&folder.path().join("out.safetensors")).unwrap();
            let steps = output.to_i64("steps").unwrap();
            assert!(
                steps.iter().map(|n| *n as usize).eq(outcome.steps.clone()),
                "{name}"
            );
            let logits = output.to_f32("logits").unwrap();
            assert_eq!(logits.len(), expected.len());
            for (actual, expected) in logits.iter().zip(&expected) {
                assert!(
                    (f64::from(*actual) - expected).abs() < 1e-4,
                    "{name}: {actual}, not {expected}"
                );
            }
            let line =
                format!("generate --model {model} --prompt-ids {prompt} --max-new-tokens 8 --json");
            let (stdout, _) = success(folder.path(), &line);
            let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
            assert_eq!(
                json["generated_ids"],
                serde_json::json!(original.continuation(&ids, 8)),
                "{name}"
            );
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_by_import_and_whatever_runs_a_model() {
    let folder = tempfile::tempdir().unwrap();
    success(folder.path(), TECHNICAL);
    let spoil = |from: &Path, to: &str| {
        let mut bytes = fs::read(from).unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(folder.path().join(to), bytes).unwrap();
    };
    spoil(
        &data("goldens/m1_learned.weights.safetensors"),
        "nan.safetensors",
    );
    let weights = "{goldens/m1_learned.weights.safetensors}";
    let line = TECHNICAL
        .replace(weights, "nan.safetensors")
        .replace("output model", "output x");
    let error = failure(folder.path(), &line, 1);
    assert!(
        error.contains("nan.safetensors: tensor `") && error.contains("holds NaN"),
        "{error}"
    );

    let model = folder.path().join("model/model.safetensors");
    spoil(&model, "model/model.safetensors");
    for line in [
        "generate --model model --prompt-ids 3,5 --device cpu",
        "logits --model model --input {goldens/m1_learned.b1_len7.io.safetensors} --output out",
        "export --model model --output x",
        "export --model model --output x --dtype f16",
        "bench decode --model model --device cpu",
    ] {
        let error = failure(folder.path(), line, 1);
        assert!(
            error.contains("tensor `") && error.contains("holds NaN"),
            "{line}: {error}"
        );
    }
}

#[test]
fn failed_imports_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str, code| failure(folder.path(), line, code);
    let error = run(&TECHNICAL.replace("m1_learned", "m2"), 1);
    assert!(
        error.contains("`embeddings.token_embedding.weight` is missing"),
        "{error}"
    );
    let error = run(&TECHNICAL.replace("--heads 4", "--heads 5"), 2);
    assert!(
        error.contains("5 heads do not divide the width 48"),
        "{error}"
    );
    let error = run(&format!("{TECHNICAL} --positions rotary"), 2);
    assert!(error.contains("of learned positions"), "{error}");
    let error = run(
        "import technical --weights {data/pt/program.pt} --heads 4 --output model",
        1,
    );
    assert!(error.contains("__builtin__.print"), "{error}");
    let error = run(
        "import technical --weights nowhere.pt --heads 4 --output model",
        1,
    );
    assert!(error.contains("nowhere.pt"), "{error}");
    let error = run(&format!("{TECHNICAL} --tokenizer {{data}}"), 1);
    assert!(error.contains("no tokenizer in it"), "{error}");
    let error = run(&format!("{TECHNICAL} --tokenizer {{data/tokenizer}}"), 1);
    assert!(error.contains("do not belong together"), "{error}");
    run("import technical --weights x.pt --output model", 2);
    run("import", 2);
    run("export --output model", 2);
    run("export --model nowhere --output model", 1);
    run(
        "data prepare --input {data/technical-sample.jsonl} --output rows.jsonl --min-chars 5 --max-chars 4",
        2,
    );
}

/// The exported probe is what the CPU makes of the exported weights.
fn check_probe(model: &Path) {
    let text = fs::read(model.join("probe.json")).unwrap();
    let probe = Probe::from_json(&text).unwrap();
    let options = LoadOptions {
        precision: WeightPrecision::F32,
        ..LoadOptions::default()
    };
    let model = Arc::new(Model::load_with(model, options).unwrap());
    let decoder = Decoder::new(model, DecodeOptions::default()).unwrap();
    let outcome = pollster::block_on(probe.check(&mut decoder.into())).unwrap();
    assert!(outcome.agrees && outcome.difference < 1e-4, "{outcome:?}");
}

#[test]
fn exports_keep_other_files_and_change_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    success(folder.path(), TECHNICAL);
    check_probe(&folder.path().join("model"));
    fs::write(folder.path().join("model/README.md"), "# A model\n").unwrap();
    let size = |model: &str| {
        let path = folder.path().join(model).join("model.safetensors");
        fs::metadata(path).unwrap().len()
    };
    for (dtype, tolerance) in [("f32", 1e-4), ("f16", 0.05), ("q8", 0.5)] {
        success(
            folder.path(),
            &format!("export --model model --output {dtype} --dtype {dtype}"),
        );
        let readme = fs::read_to_string(folder.path().join(dtype).join("README.md")).unwrap();
        assert_eq!(readme, "# A model\n");
        let difference = difference_of_logits(folder.path(), dtype);
        assert!(difference < tolerance, "{dtype}: {difference}");
        check_probe(&folder.path().join(dtype));
    }
    assert!(size("f32") == size("model") && size("f16") < size("f32") && size("q8") < size("f16"));

    // Quantizing what is quantized changes nothing; the way back loses nothing more.
    success(folder.path(), "export --model q8 --output again --dtype q8");
    let weights =
        |model: &str| fs::read(folder.path().join(model).join("model.safetensors")).unwrap();
    assert_eq!(weights("q8"), weights("again"));
    success(folder.path(), "export --model q8 --output wide --dtype f32");
    let difference = difference_of_logits(folder.path(), "wide");
    assert!(difference < 0.5, "{difference}");

    let error = failure(
        folder.path(),
        "export --model model --output model --dtype q8",
        2,
    );
    assert!(
        error.contains("config.json, which --model reads"),
        "{error}"
    );
    let names = |model: &str| {
        let entries = fs::read_dir(folder.path().join(model)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("q8"), names("model"));
}

/// Special tokens and merges from a small folder in the technical original's format.
#[test]
fn a_tokenizer_comes_along() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    fs::create_dir(&original).unwrap();
    let vocab =
        r#"{"<pad>":0,"<unk>":1,"<bos>":2,"<eos>":3,"<user>":4,"<assistant>":5,"h":6,"i":7,"hi":8"#;
    let special = r#"{"special_tokens":{"<pad>":0,"<unk>":1,"<bos>":2,"<eos>":3,"<user>":4,"<assistant>":5}}"#;
    fs::write(original.join("vocab.json"), format!("{vocab}}}")).unwrap();
    fs::write(original.join("merges.txt"), "h i\nh  i h\n").unwrap();
    fs::write(original.join("tokenizer_config.json"), special).unwrap();
    let stderr = failure(
        folder.path(),
        &format!("{TECHNICAL} --tokenizer original"),
        1,
    );
    assert!(stderr.contains("the tokenizer has 9 ids"), "{stderr}");
    assert!(!folder.path().join("model").exists());

    // The golden model has 97.
    let rest: String = (9..97).map(|id| format!(",\"w{id}\":{id}")).collect();
    fs::write(original.join("vocab.json"), format!("{vocab}{rest}}}")).unwrap();
    let (_, stderr) = success(folder.path(), &format!("{TECHNICAL} --tokenizer original"));
    assert!(
        stderr.contains("1 line(s) of merges.txt") && stderr.ends_with(": 2\n"),
        "{stderr}"
    );
    let (ids, _) = success(folder.path(), "tokenizer encode --model model --chat hi");
    assert_eq!(ids.trim(), "2 4 8 5");
    let (stdout, _) = success(
        folder.path(),
        "generate --model model --prompt hi --max-new-tokens 3 --json",
    );
    assert!(stdout.contains("generated_ids"), "{stdout}");
}
