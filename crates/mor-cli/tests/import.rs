//! `mor import` and `mor export`, as a shell meets them.

#![cfg(feature = "model")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use mor_config::{ModelConfig, Weights};
use mor_engine::{DecodeOptions, Decoder, LoadOptions, Model, Probe, WeightPrecision};

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

#[test]
fn failed_imports_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str, code| failure(folder.path(), line, code);
    let error = run(&TECHNICAL.replace("m1_learned", "m2"), 1);
    assert!(
        error.contains("`embeddings.token_embedding.weight` is missing"),
        "{error}"
    );
    let error = run(&TECHNICAL.replace("--heads 4", "--heads 5"), 1);
    assert!(error.contains("num_attention_heads"), "{error}");
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
    assert!(error.contains("the model itself"), "{error}");
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
