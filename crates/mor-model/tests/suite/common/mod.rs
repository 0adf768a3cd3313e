//! Golden vectors of the two original models, and what the tests share.

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(feature = "gpu")]
pub(crate) mod gradients;

/// Makes tests of functions that take a device: each on the CPU, and all of them on the GPU with kernels of each
/// variant.
macro_rules! on_every_device {
    ($($name:ident),+ $(,)?) => {
        mod cpu {
            $(#[test]
            fn $name() {
                super::$name(&burn::tensor::Device::flex());
            })+
        }

        #[cfg(feature = "gpu")]
        mod gpu {
            use mor_model::gpu::Variant;

            fn all(variant: Variant) {
                let (device, _guard) = crate::common::gpu::gpu(variant);
                $(super::$name(&device);)+
            }

            #[test]
            fn portable() {
                all(Variant::Portable);
            }

            #[test]
            fn workgroup() {
                all(Variant::Workgroup);
            }

            #[test]
            fn subgroup() {
                all(Variant::Subgroup);
            }
        }
    };
}
pub(crate) use on_every_device;

use std::path::{Path, PathBuf};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use mor_config::{ModelConfig, Weights};
use mor_model::{ForwardOptions, Model, Output};

/// The technical model's set of golden vectors.
pub(crate) const TECHNICAL: &str = "m1_learned";
/// The conversational model's.
pub(crate) const CONVERSATIONAL: &str = "m2";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/goldens")
        .join(name)
}

/// Opens one golden file of a set.
pub(crate) fn open(set: &str, name: &str) -> Weights {
    Weights::open(&path(&format!("{set}.{name}.safetensors"))).expect("a golden file")
}

/// The configuration of a set's weights.
pub(crate) fn config(set: &str) -> ModelConfig {
    let path = path(&format!("{set}.config.json"));
    let text = std::fs::read(&path).expect("a configuration");
    ModelConfig::from_json(&text, &path).expect("valid")
}

/// The model with a set's weights.
pub(crate) fn model(set: &str, config: &ModelConfig, device: &Device) -> Model {
    Model::from_weights(config, &open(set, "weights"), device).expect("golden weights")
}

/// An integer matrix of a golden file.
pub(crate) fn ints(io: &Weights, name: &str, device: &Device) -> Tensor<2, Int> {
    let shape = io.shape(name).expect("a tensor").to_vec();
    let values = io.to_i64(name).expect("integers");
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Rows of ids.
pub(crate) fn ids<const B: usize, const S: usize>(
    rows: [[i64; S]; B],
    device: &Device,
) -> Tensor<2, Int> {
    Tensor::from_data(rows, device)
}

/// The inputs of a case.
pub(crate) fn inputs(io: &Weights, device: &Device) -> (Tensor<2, Int>, ForwardOptions) {
    let mask: Option<Tensor<2, Bool>> = io
        .contains("attention_mask")
        .then(|| ints(io, "attention_mask", device).equal_elem(1));
    let options = ForwardOptions {
        attention_mask: mask,
        ..ForwardOptions::default()
    };
    (ints(io, "input_ids", device), options)
}

/// Runs a model as its configuration says.
pub(crate) fn run(model: &Model, ids: Tensor<2, Int>) -> Output {
    let output = model.forward(ids, &ForwardOptions::default());
    output.expect("valid input")
}

/// The logits of every position, and the output they come from.
pub(crate) fn logits(model: &Model, ids: Tensor<2, Int>) -> (Vec<f32>, Output) {
    let output = run(model, ids);
    (values(model.logits(output.hidden.clone())), output)
}

/// All routed steps, as golden files have them.
pub(crate) fn steps(output: &Output) -> Vec<i64> {
    output.steps.iter().flatten().map(|s| *s as i64).collect()
}

/// The values of a tensor.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.without_autodiff().into_data();
    data.try_into_vec().expect("f32")
}

/// The values of a tensor of integers.
pub(crate) fn numbers(tensor: Tensor<2, Int>) -> Vec<i64> {
    let data = tensor.into_data().convert::<i64>();
    data.try_into_vec().expect("integers")
}

/// The largest absolute difference.
pub(crate) fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "lengths");
    let pairs = found.iter().zip(expected);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |worst, d| {
        assert!(!d.is_nan(), "not a number");
        f32::max(worst, d)
    })
}

/// Holds a scalar of a golden file to what was computed.
pub(crate) fn assert_scalar(io: &Weights, name: &str, found: f32) {
    let expected = io.to_f32(name).expect("a number")[0];
    let tolerance = 1e-5 * expected.abs().max(1.0);
    assert!(
        (found - expected).abs() < tolerance,
        "{name}: {found} is not {expected}"
    );
}

/// Compares gradients with every `grad.` tensor of a file, each to 1e-4 of its largest entry, and their global norm.
/// `untaught` says which parameters may have none.
pub(crate) fn assert_gradients(
    config: &ModelConfig,
    io: &Weights,
    gradients: Vec<Option<Vec<f32>>>,
    untaught: impl Fn(&str) -> bool,
) {
    let mut squares = 0.0;
    let mut compared = 0;
    for (spec, gradient) in config.tensors().iter().zip(gradients) {
        let name = format!("grad.{}", spec.name);
        let Some(gradient) = gradient else {
            assert!(untaught(&spec.name), "{name} is missing");
            continue;
        };
        assert!(!untaught(&spec.name), "{name} should not be");
        squares += gradient.iter().map(|v| f64::from(v * v)).sum::<f64>();
        // The file keeps some tensors; the norm below covers the others.
        if io.contains(&name) {
            let expected = io.to_f32(&name).expect("a gradient");
            let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            let worst = distance(&gradient, &expected);
            assert!(worst <= 1e-4 * largest, "{name}: {worst} of {largest}");
            compared += 1;
        }
    }
    let names = io.names();
    let kept = names.iter().filter(|name| name.starts_with("grad."));
    assert_eq!(compared, kept.count());
    let norm = io.to_f32("grad_global_norm").expect("a number")[0];
    let found = squares.sqrt() as f32;
    assert!((found - norm).abs() < 1e-4 * norm, "{found} is not {norm}");
}

/// Greedy decoding by full recomputation, until the golden ids end; compares ids and steps.
pub(crate) fn assert_generates(set: &str, case: &str, device: &Device) {
    let config = config(set);
    let model = model(set, &config, device);
    let io = open(set, &format!("{case}.io"));
    let mut ids = io.to_i64("prompt_ids").expect("ids");
    let prompt = ids.len();
    let expected = io.to_i64("generated_ids").expect("ids");
    let mut taken = Vec::new();
    for _ in 0..expected.len() {
        let start = ids.len().saturating_sub(config.max_position_embeddings);
        let context = &ids[start..];
        let input = Tensor::<1, Int>::from_data(context, device);
        let output = run(&model, input.unsqueeze());
        taken.extend(steps(&output));
        let last = output.hidden.narrow(1, context.len() - 1, 1);
        let logits = values(model.logits(last));
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
        ids.push(best.expect("a vocabulary") as i64);
    }
    assert_eq!(ids[prompt..], expected, "{case}");
    assert_eq!(
        taken,
        io.to_i64("steps_per_token").expect("steps"),
        "{case}"
    );
}
