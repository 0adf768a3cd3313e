//! Technical checkpoints with each kind of positions: import, logits and greedy decoding give what the formulas give.

mod plain;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mor_config::{ModelConfig, Positions, Precision, WEIGHTS_FILE, Weights};
use mor_engine::{Context, DecodeOptions, Decoder, GenerateOptions, Generator, LoadOptions, Model};
use mor_import::{Checkpoint, ImportError, TechnicalOptions, convert, save_model, technical};
use plain::{CONTEXT, DIM, HEADS, Kind, Original, Tensor, VOCAB, frequencies, sinusoids};
use pollster::block_on;

/// With a pad in the middle, which later positions must not see.
const IDS: [u32; 11] = [5, 17, 3, 28, 0, 9, 11, 4, 22, 9, 1];

const TABLE: &str = "embeddings.pos_encoding.pe";

/// Writes a state dict and opens it.
fn checkpoint(folder: &Path, tensors: &[Tensor]) -> Checkpoint {
    let path: PathBuf = folder.join("original.safetensors");
    mor_config::save_tensors(&path, tensors, Precision::F32).expect("writable");
    Checkpoint::open(&path).expect("readable")
}

fn options() -> TechnicalOptions {
    TechnicalOptions {
        heads: HEADS,
        ..TechnicalOptions::default()
    }
}

fn read(model: &Path) -> Decoder {
    let model = Model::load_with(model, LoadOptions::default()).expect("a model folder");
    let options = DecodeOptions {
        threads: 1,
        ..DecodeOptions::default()
    };
    Decoder::new(Arc::new(model), options).expect("a decoder")
}

/// Holds a model folder to the original: logits within 1e-4, steps and greedy ids exactly.
fn compare(model: &Path, original: &Original, what: &str) {
    let expected = original.forward(&IDS);
    let mut decoder = read(model);
    decoder.prefill(&IDS).expect("fits");
    let steps: Vec<usize> = decoder.steps().iter().map(|n| usize::from(*n)).collect();
    assert_eq!(steps, expected.steps, "{what}");
    assert!(
        steps.iter().sum::<usize>() > 0,
        "{what}: nothing is computed"
    );
    for (position, expected) in expected.logits.iter().enumerate() {
        let mut row = vec![0.0; VOCAB];
        decoder.logits_at(position, &mut row).expect("a position");
        for (actual, expected) in row.iter().zip(expected) {
            let difference = (f64::from(*actual) - expected).abs();
            assert!(
                difference < 1e-4,
                "{what}, position {position}: {actual}, not {expected}"
            );
        }
    }
    let options = GenerateOptions {
        max_new_tokens: 8,
        ..GenerateOptions::default()
    };
    let mut context: Context = read(model).into();
    let mut generator = block_on(Generator::start(&mut context, &IDS, options)).expect("starts");
    let tokens = block_on(generator.rest(&mut context)).expect("runs");
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(ids, original.continuation(&IDS, 8), "{what}");
}

/// Imports a checkpoint, holds it to the original, and again after exporting and after importing what was exported.
fn round_trip(tensors: &[Tensor], options: &TechnicalOptions, original: &Original) -> ModelConfig {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = checkpoint(folder.path(), tensors);
    let config = technical(&checkpoint, options).expect("a technical model");
    let [model, exported, again] = ["model", "exported", "again"].map(|name| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("created");
        path
    });
    save_model(&checkpoint, &config, &model, Precision::F32).expect("saved");
    compare(&model, original, "imported");
    convert(&model, &exported, Precision::F32).expect("exported");
    compare(&exported, original, "exported");

    // A model folder's own weights name no table that follows from the configuration.
    let weights = Checkpoint::open(&exported.join(WEIGHTS_FILE)).expect("weights");
    let options = TechnicalOptions {
        positions: Some(config.positions),
        context: Some(config.max_position_embeddings),
        ..options.clone()
    };
    let found = technical(&weights, &options).expect("the same model");
    assert_eq!(found, config);
    save_model(&weights, &found, &again, Precision::F32).expect("saved");
    compare(&again, original, "imported again");
    let stored = |folder: &Path| {
        let weights = Weights::open(&folder.join(WEIGHTS_FILE)).expect("weights");
        let raw = |name: String| (name.clone(), weights.raw(&name).expect("there").2.to_vec());
        weights.names().into_iter().map(raw).collect::<Vec<_>>()
    };
    assert_eq!(stored(&model), stored(&again));
    config
}

#[test]
fn learned_positions_match_the_formulas() {
    let original = Original::new(Kind::Learned, 8);
    let config = round_trip(&original.tensors(), &options(), &original);
    assert_eq!(
        (config.positions, config.max_position_embeddings),
        (Positions::Learned, CONTEXT)
    );
}

#[test]
fn sinusoidal_positions_match_the_formulas() {
    let original = Original::new(Kind::Sinusoidal, 7);
    for shape in [
        vec![1, CONTEXT, DIM],
        vec![CONTEXT, DIM],
        vec![CONTEXT, 1, DIM],
    ] {
        let mut tensors = original.tensors();
        tensors.push((TABLE.to_owned(), shape, sinusoids(CONTEXT)));
        let config = round_trip(&tensors, &options(), &original);
        assert_eq!(config.positions, Positions::Sinusoidal);
        assert_eq!(config.max_position_embeddings, CONTEXT);
    }
}

#[test]
fn rotary_positions_match_the_formulas() {
    let original = Original::new(Kind::Rotary, 7);
    let mut tensors = original.tensors();
    for name in [
        "embeddings.pos_encoding",
        "layers.0.attention.rotary",
        "layers.1.attention.rotary",
    ] {
        let table = frequencies(10_000.0);
        tensors.push((format!("{name}.inv_freq"), vec![table.len()], table));
    }
    let config = round_trip(&tensors, &options(), &original);
    assert_eq!(
        (config.positions, config.max_position_embeddings),
        (Positions::Rotary, 128)
    );

    // Without a table somebody has to say so.
    let named = TechnicalOptions {
        positions: Some(Positions::Rotary),
        context: Some(CONTEXT),
        ..options()
    };
    let config = round_trip(&original.tensors(), &named, &original);
    assert_eq!(
        (config.positions, config.max_position_embeddings),
        (Positions::Rotary, CONTEXT)
    );
}

#[test]
fn another_rotary_base_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut tensors = Original::new(Kind::Rotary, 7).tensors();
    let table = frequencies(500_000.0);
    tensors.push(("rope.inv_freq".to_owned(), vec![table.len()], table));
    let config = technical(&checkpoint(folder.path(), &tensors), &options()).expect("rotary");
    assert!(
        (config.rope_theta - 500_000.0).abs() < 50.0,
        "{}",
        config.rope_theta
    );
}

#[test]
fn a_table_stored_in_sixteen_bits_is_the_formula_still() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in [
        |value: f32| half::f16::from_f32(value).to_f32(),
        |value: f32| half::bf16::from_f32(value).to_f32(),
    ] {
        let mut tensors = Original::new(Kind::Sinusoidal, 7).tensors();
        let table = sinusoids(300).into_iter().map(round).collect();
        tensors.push((TABLE.to_owned(), vec![1, 300, DIM], table));
        let found = technical(&checkpoint(folder.path(), &tensors), &options());
        assert_eq!(found.expect("sinusoidal").max_position_embeddings, 300);
    }
}

#[test]
fn tables_that_are_not_the_formula_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |shape: Vec<usize>, table: Vec<f32>, options: &TechnicalOptions| {
        let mut tensors = Original::new(Kind::Sinusoidal, 7).tensors();
        tensors.push((TABLE.to_owned(), shape, table));
        let found = technical(&checkpoint(folder.path(), &tensors), options);
        let error = found.expect_err("refused").to_string();
        assert!(
            error.contains("original.safetensors") && error.contains(TABLE),
            "{error}"
        );
        error
    };
    let shape = || vec![1, CONTEXT, DIM];
    let mut trained = sinusoids(CONTEXT);
    trained[3 * DIM + 2] += 1e-3;
    let error = refused(shape(), trained, &options());
    assert!(
        error.contains("position 3, column 2") && error.contains("rename"),
        "{error}"
    );
    let mut broken = sinusoids(CONTEXT);
    broken[0] = f32::NAN;
    assert!(refused(shape(), broken, &options()).contains("NaN"));
    // Sines before cosines, as some programs lay them out.
    let halves = sinusoids(CONTEXT)
        .chunks_exact(DIM)
        .flat_map(|row| {
            (0..DIM)
                .map(|i| row[2 * (i % (DIM / 2)) + i / (DIM / 2)])
                .collect::<Vec<_>>()
        })
        .collect();
    refused(shape(), halves, &options());
    refused(vec![CONTEXT, 1, 1, DIM], sinusoids(CONTEXT), &options());
    refused(
        vec![1, 2 * CONTEXT, DIM / 2],
        sinusoids(CONTEXT),
        &options(),
    );
    refused(vec![1, 0, DIM], Vec::new(), &options());
}

#[test]
fn what_nothing_tells_and_what_contradicts_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = |tensors: &[Tensor], options: &TechnicalOptions| {
        technical(&checkpoint(folder.path(), tensors), options).expect_err("refused")
    };
    let plain = Original::new(Kind::Rotary, 7).tensors();
    let silent = error(&plain, &options()).to_string();
    assert!(
        silent.contains("has no table of positions") && silent.contains("--positions rotary"),
        "{silent}"
    );

    let with = |name: &str, shape: Vec<usize>, values: Vec<f32>| {
        let mut tensors = plain.clone();
        tensors.push((name.to_owned(), shape, values));
        tensors
    };
    let sinusoidal = with(TABLE, vec![CONTEXT, DIM], sinusoids(CONTEXT));
    let rotary = TechnicalOptions {
        positions: Some(Positions::Rotary),
        ..options()
    };
    let wrong = error(&sinusoidal, &rotary);
    assert!(
        matches!(wrong, ImportError::Option(_)) && wrong.to_string().contains("sinusoidal"),
        "{wrong}"
    );

    let learned = Original::new(Kind::Learned, 8).tensors();
    let longer = TechnicalOptions {
        context: Some(CONTEXT + 1),
        ..options()
    };
    let wrong = error(&learned, &longer);
    assert!(
        matches!(wrong, ImportError::Option(_)) && wrong.to_string().contains("20 rows"),
        "{wrong}"
    );

    let mut two = learned;
    two.push((TABLE.to_owned(), vec![CONTEXT, DIM], sinusoids(CONTEXT)));
    let wrong = error(&two, &options()).to_string();
    assert!(wrong.contains("two kinds"), "{wrong}");

    let table = frequencies(10_000.0);
    let rotary = with("layers.0.rope.inv_freq", vec![table.len()], table.clone());
    for heads in [0, 5, 7] {
        let wrong = error(&rotary, &TechnicalOptions { heads, ..options() });
        assert!(matches!(wrong, ImportError::Option(_)), "{wrong}");
        assert!(
            wrong
                .to_string()
                .contains("one of 1, 2, 3, 4, 6, 8, 12, 24"),
            "{wrong}"
        );
    }
    let wrong = error(
        &rotary,
        &TechnicalOptions {
            heads: 2,
            ..options()
        },
    )
    .to_string();
    assert!(
        wrong.contains("`layers.0.rope.inv_freq`") && wrong.contains("--heads 2"),
        "{wrong}"
    );
    let odd = with(
        "layers.0.rope.inv_freq",
        vec![table.len()],
        vec![1.0, 0.5, 0.1, 0.09],
    );
    assert!(
        error(&odd, &options())
            .to_string()
            .contains("does not follow")
    );
}

/// Files that stand for a checkpoint, or have nothing in them.
#[test]
fn what_is_no_whole_checkpoint_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |name: &str, contents: &[u8], expected: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, contents).expect("written");
        let error = Checkpoint::open(&path).expect_err(name).to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    refused("model-00001-of-00002.safetensors", b"", "one of 2 parts");
    refused("pytorch_model-00002-of-00003.bin", b"", "one of 3 parts");
    refused("model.safetensors.index.json", b"{}", "lists the parts");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    refused("model.safetensors", pointer, "git lfs pull");
    refused("model.pt", pointer, "git lfs pull");
    refused("empty.safetensors", b"", "not a whole safetensors file");
    refused("empty.pt", b"", "does not begin like a zip archive");
    let error = Checkpoint::open(folder.path())
        .expect_err("a folder")
        .to_string();
    assert!(error.contains("is a folder"), "{error}");

    let mut tensors = Original::new(Kind::Learned, 8).tensors();
    tensors[0] = (tensors[0].0.clone(), vec![0, DIM], Vec::new());
    let error = technical(&checkpoint(folder.path(), &tensors), &options()).expect_err("empty");
    let error = error.to_string();
    assert!(
        error.contains("token_embedding.weight` has shape [0, 24]"),
        "{error}"
    );
}
