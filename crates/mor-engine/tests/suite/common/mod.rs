//! What several of the engine's tests share.

pub(crate) mod devices;
pub(crate) mod goldens;
pub(crate) mod plain;

use std::sync::Arc;

use mor_config::{ModelConfig, Precision, Weights};
use mor_engine::{DecodeOptions, Decoder, LoadOptions, Model};
use mor_goldens::GoldenSet;
pub(crate) use mor_goldens::{conversational, routed_configs, technical};
use safetensors::Dtype;

use plain::Tensors;

/// A golden model's configuration and weights.
pub(crate) fn golden_model(set: &str, options: LoadOptions) -> Arc<Model> {
    let weights = golden(set, "weights");
    Arc::new(
        Model::from_parts_with(golden_config(set), &weights, options).expect("the golden model"),
    )
}

/// A golden model by the name that its files begin with: `m1_learned` or `m2`.
pub(crate) fn golden_set(name: &str) -> GoldenSet {
    let mut all = GoldenSet::ALL.into_iter();
    all.find(|set| set.name() == name).expect("a golden set")
}

/// A golden model's configuration.
pub(crate) fn golden_config(set: &str) -> ModelConfig {
    golden_set(set).config().expect("a configuration")
}

/// `<set>.<name>.safetensors`.
pub(crate) fn golden(set: &str, name: &str) -> Weights {
    golden_set(set).open(name).expect("a golden file")
}

/// Rows of an i64 tensor `[rows, cols]`, or its values one by one where it is `[rows]`.
pub(crate) fn rows(file: &Weights, name: &str) -> Vec<Vec<u32>> {
    mor_goldens::rows(file, name).expect("integers")
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

/// Random tensors whose values are exact in f16, and the file that holds them. Router outputs are large, so that
/// every class is someone's.
pub(crate) fn tensors(config: &ModelConfig, dtype: Dtype) -> (Tensors, Weights) {
    mor_goldens::random_weights(config, dtype).expect("encodable")
}

/// The same tensors in a file of int8.
pub(crate) fn stored_as_int8(weights: &Weights) -> Weights {
    mor_goldens::stored_as(weights, Precision::Q8, |_, _| ()).expect("encodable")
}

/// Other tensors in a file of f32: `edit` is given each one's name and values.
pub(crate) fn edited(weights: &Weights, edit: impl Fn(&str, &mut [f32])) -> Weights {
    mor_goldens::stored_as(weights, Precision::F32, edit).expect("encodable")
}

/// A model of those tensors.
pub(crate) fn model(config: &ModelConfig, dtype: Dtype, options: LoadOptions) -> Arc<Model> {
    let (_, weights) = tensors(config, dtype);
    Arc::new(Model::from_parts_with(config.clone(), &weights, options).expect("a model"))
}
