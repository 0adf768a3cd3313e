//! What several of the engine's tests share.

pub(crate) mod devices;
pub(crate) mod goldens;
pub(crate) mod plain;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use mor_config::{
    Architecture, ModelConfig, Pooling, Positions, Precision, Preset, WEIGHTS_FILE, Weights,
    save_tensors,
};
use mor_engine::{DecodeOptions, Decoder, LoadOptions, Model};
use safetensors::{Dtype, tensor::TensorView};

use plain::Tensors;

/// A golden model's configuration and weights.
pub(crate) fn golden_model(set: &str, options: LoadOptions) -> Arc<Model> {
    let weights = golden(set, "weights");
    Arc::new(
        Model::from_parts_with(golden_config(set), &weights, options).expect("the golden model"),
    )
}

/// A golden model's configuration.
pub(crate) fn golden_config(set: &str) -> ModelConfig {
    let path = golden_path(&format!("{set}.config.json"));
    let text = std::fs::read(&path).expect("a configuration");
    ModelConfig::from_json(&text, &path).expect("valid")
}

/// `<set>.<name>.safetensors`.
pub(crate) fn golden(set: &str, name: &str) -> Weights {
    Weights::open(&golden_path(&format!("{set}.{name}.safetensors"))).expect("a golden file")
}

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/goldens")
        .join(name)
}

/// Rows of an i64 tensor `[rows, cols]`, or its values one by one where it is `[rows]`.
pub(crate) fn rows(file: &Weights, name: &str) -> Vec<Vec<u32>> {
    let cols = match file.shape(name).expect("there") {
        [_, cols] => *cols,
        _ => 1,
    };
    let values = file.to_i64(name).expect("integers");
    values
        .chunks_exact(cols)
        .map(|row| row.iter().map(|id| *id as u32).collect())
        .collect()
}

/// Steps at the last token.
pub(crate) fn steps(decoder: &Decoder) -> Vec<u32> {
    decoder
        .steps()
        .iter()
        .map(|step| u32::from(*step))
        .collect()
}

/// The likeliest next token, the first of equals.
pub(crate) fn greedy(decoder: &Decoder) -> u32 {
    let logits = decoder.logits();
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    logits.iter().position(|x| *x == top).expect("some logits") as u32
}

pub(crate) fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (a - e).abs() <= tolerance,
            "{what}: value {i} is {a}, not {e}"
        );
    }
}

/// Logits of every position.
pub(crate) fn all_logits(decoder: &mut Decoder) -> Vec<Vec<f32>> {
    let (vocab_size, len) = (decoder.model().config().vocab_size, decoder.ids().len());
    let row = |position| {
        let mut row = vec![0.0; vocab_size];
        decoder.logits_at(position, &mut row).expect("a position");
        row
    };
    (0..len).map(row).collect()
}

/// Many small decoders run in parallel already.
pub(crate) fn one_thread() -> DecodeOptions {
    DecodeOptions {
        threads: 1,
        ..DecodeOptions::default()
    }
}

/// A decoder that has read `ids`, `portion` at a time.
pub(crate) fn read(
    model: &Arc<Model>,
    options: DecodeOptions,
    ids: &[u32],
    portion: usize,
) -> Decoder {
    let mut decoder = Decoder::new(Arc::clone(model), options).expect("a decoder");
    for ids in ids.chunks(portion) {
        decoder.prefill(ids).expect("fits");
    }
    decoder
}

/// A small technical model with routers.
pub(crate) fn technical(positions: Positions, pooling: Pooling) -> ModelConfig {
    ModelConfig {
        positions,
        ..small(Preset::TechnicalCard, pooling)
    }
}

/// A small conversational model with a router.
pub(crate) fn conversational(pooling: Pooling) -> ModelConfig {
    ModelConfig {
        pad_token_id: 0,
        ..small(Preset::Conversational198m, pooling)
    }
}

fn small(preset: Preset, pooling: Pooling) -> ModelConfig {
    let mut config = preset.config();
    config.vocab_size = 61;
    config.hidden_size = 40;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 2;
    config.intermediate_size = 72;
    config.max_position_embeddings = 48;
    config.routing.pooling = pooling;
    config
}

/// A technical model's weights whose routers take `depths`, by layer, whatever they see.
pub(crate) fn with_depths(weights: &Weights, depths: &[usize]) -> Weights {
    edited(weights, |name, values| {
        // "layers.2.router.complexity_classifier.3.bias": a score for each number of steps.
        let Some((layer, "3.bias")) = name.split_once(".router.complexity_classifier.") else {
            return;
        };
        let layer: usize = layer
            .trim_start_matches("layers.")
            .parse()
            .expect("its number");
        values[depths[layer]] += 1e3;
    })
}

/// Both, for each way of pooling.
pub(crate) fn routed_configs() -> Vec<ModelConfig> {
    let pooling = [Pooling::Sequence, Pooling::Real, Pooling::Prefix];
    let both = |pooling| {
        [
            technical(Positions::Rotary, pooling),
            conversational(pooling),
        ]
    };
    pooling.into_iter().flat_map(both).collect()
}

/// Random tensors whose values are exact in f16, and the file that holds them. Router outputs are large, so that
/// every class is someone's.
pub(crate) fn tensors(config: &ModelConfig, dtype: Dtype) -> (Tensors, Weights) {
    let mut state = 12345_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    let (mut named, mut encoded) = (Tensors::new(), Vec::new());
    for spec in config.tensors() {
        let gain = spec.shape.len() == 1 && spec.name.ends_with("weight");
        let router = spec.name.contains("router");
        let conversational = config.architecture == Architecture::Conversational;
        let scale = match (router, conversational) {
            _ if spec.shape.len() == 1 => 0.4,
            (true, _) => 8.0,
            // Without a norm after the embedding, small tokens would all look alike to the router.
            (false, true) if spec.name.starts_with("embed") => 12.0,
            _ => 2.5,
        };
        let scale = scale / (*spec.shape.last().expect("a shape") as f64).sqrt();
        let values: Vec<f16> = (0..spec.shape.iter().product())
            .map(|_| f16::from_f64(random() * scale + if gain { 1.0 } else { 0.0 }))
            .collect();
        let bytes: Vec<u8> = match dtype {
            Dtype::F16 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            _ => values
                .iter()
                .flat_map(|v| v.to_f32().to_le_bytes())
                .collect(),
        };
        named.insert(
            spec.name.clone(),
            values.iter().map(|v| v.to_f64()).collect(),
        );
        encoded.push((spec.name, spec.shape, bytes));
    }
    let views = encoded.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(dtype, shape.clone(), bytes).expect("bytes fit the shape");
        (name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).expect("serializable");
    (
        named,
        Weights::from_bytes(file, Path::new("model.safetensors")).expect("whole"),
    )
}

/// The same tensors in a file of int8.
pub(crate) fn stored_as_int8(weights: &Weights) -> Weights {
    stored(weights, Precision::Q8, |_, _| ())
}

/// Other tensors in a file of f32: `edit` is given each one's name and values.
pub(crate) fn edited(weights: &Weights, edit: impl Fn(&str, &mut [f32])) -> Weights {
    stored(weights, Precision::F32, edit)
}

fn stored(weights: &Weights, precision: Precision, edit: impl Fn(&str, &mut [f32])) -> Weights {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(WEIGHTS_FILE);
    let named = weights.names().into_iter().map(|name| {
        let shape = weights.shape(&name).expect("there").to_vec();
        let mut values = weights.to_f32(&name).expect("floats");
        edit(&name, &mut values);
        (name, shape, values)
    });
    let named: Vec<_> = named.collect();
    save_tensors(&path, &named, precision).expect("writable");
    // Once open it needs its name no more.
    Weights::open(&path).expect("weights")
}

/// A model of those tensors.
pub(crate) fn model(config: &ModelConfig, dtype: Dtype, options: LoadOptions) -> Arc<Model> {
    let (_, weights) = tensors(config, dtype);
    Arc::new(Model::from_parts_with(config.clone(), &weights, options).expect("a model"))
}
