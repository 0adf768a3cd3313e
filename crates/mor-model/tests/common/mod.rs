//! Golden vectors of the original technical model.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use mor_config::{ModelConfig, Weights};
use mor_model::{ForwardOptions, TechnicalModel};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/goldens")
        .join(format!("m1_learned.{name}.safetensors"))
}

/// Opens one golden file.
pub fn open(name: &str) -> Weights {
    Weights::open(&path(name)).expect("a golden file")
}

/// The configuration of the golden weights.
pub fn config() -> ModelConfig {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/m1_learned.config.json");
    let text = std::fs::read(&path).expect("a configuration");
    ModelConfig::from_json(&text, &path).expect("valid")
}

pub fn model(config: &ModelConfig, device: &Device) -> TechnicalModel {
    TechnicalModel::from_weights(config, &open("weights"), device).expect("golden weights")
}

/// An integer matrix of a golden file.
pub fn ints(io: &Weights, name: &str, device: &Device) -> Tensor<2, Int> {
    let shape = io.shape(name).expect("a tensor").to_vec();
    let values = io.to_i64(name).expect("integers");
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The inputs of a case.
pub fn inputs(io: &Weights, device: &Device) -> (Tensor<2, Int>, ForwardOptions) {
    let mask: Option<Tensor<2, Bool>> = io
        .contains("attention_mask")
        .then(|| ints(io, "attention_mask", device).equal_elem(1));
    let options = ForwardOptions {
        attention_mask: mask,
        ..ForwardOptions::default()
    };
    (ints(io, "input_ids", device), options)
}

/// The values of a tensor.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.without_autodiff().into_data();
    data.try_into_vec().expect("f32")
}

/// The largest absolute difference.
pub fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "lengths");
    let pairs = found.iter().zip(expected);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |worst, d| {
        assert!(!d.is_nan(), "not a number");
        f32::max(worst, d)
    })
}
