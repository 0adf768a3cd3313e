//! Weights that are not finite numbers are refused by name, however they are stored and kept, on every device.

use std::path::Path;
use std::sync::Arc;

use crate::common;
use mor_config::{Depth, ModelConfig, Pooling, Positions, Weights};
use mor_engine::{
    Context, DecodeOptions, Decoder, EngineError, LoadOptions, Model, SamplingOptions,
    WeightPrecision,
};
use pollster::block_on;
use safetensors::{Dtype, tensor::TensorView};

/// A matrix, a norm, a table that is added, and a part of a matrix that is packed of three.
const TENSORS: [&str; 4] = [
    "layers.0.step_projections.1.weight",
    "layers.1.norm2.bias",
    "embeddings.pos_encoding.pos_embedding.weight",
    "layers.1.attention.w_k.weight",
];

/// The same file with `value` as the last one of a tensor, or, where that is int8, as its last scale.
fn spoiled(weights: &Weights, tensor: &str, value: f32) -> Weights {
    let scales = format!("{tensor}.scales");
    let at = if weights.contains(&scales) {
        &scales
    } else {
        tensor
    };
    let mut all = Vec::new();
    for name in weights.names() {
        let (dtype, shape, bytes) = weights.raw(&name).expect("there");
        let (shape, mut bytes) = (shape.to_vec(), bytes.to_vec());
        if name == at {
            let wide = value.to_le_bytes();
            let half = half::f16::from_f32(value).to_le_bytes();
            let last: &[u8] = if dtype == Dtype::F32 { &wide } else { &half };
            let start = bytes.len() - last.len();
            bytes[start..].copy_from_slice(last);
        }
        all.push((name, dtype, shape, bytes));
    }
    let views = all.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).expect("bytes fit the shape");
        (name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).expect("serializable");
    Weights::from_bytes(file, Path::new("model.safetensors")).expect("whole")
}

/// What loading says, on the CPU and, where tests have one, on the GPU.
fn refusals(config: &ModelConfig, weights: &Weights, precision: WeightPrecision) -> Vec<String> {
    let options = LoadOptions {
        precision,
        ..LoadOptions::default()
    };
    let cpu = Model::from_parts_with(config.clone(), weights, options);
    vec![
        cpu.expect_err("refused").to_string(),
        #[cfg(feature = "gpu")]
        block_on(mor_engine::gpu::GpuModel::from_parts(
            common::devices::shared_gpu(),
            config.clone(),
            weights,
            precision,
        ))
        .expect_err("refused")
        .to_string(),
    ]
}

#[test]
fn a_number_that_is_not_finite_is_refused_with_its_tensor() {
    let config = common::technical(Positions::Learned, Pooling::Sequence);
    let files = [Dtype::F32, Dtype::F16].map(|dtype| common::tensors(&config, dtype).1);
    let int8 = common::stored_as_int8(&files[0]);
    for weights in files.iter().chain([&int8]) {
        for (tensor, value) in TENSORS.into_iter().zip([f32::NAN, f32::INFINITY].repeat(2)) {
            let weights = spoiled(weights, tensor, value);
            for error in refusals(&config, &weights, WeightPrecision::AsStored) {
                let expected = format!("model.safetensors: tensor `{tensor}` holds {value}");
                assert!(error.contains(&expected), "{error}");
            }
        }
    }
}

#[test]
fn a_number_that_its_kept_type_cannot_hold_is_refused_too() {
    let config = common::technical(Positions::Rotary, Pooling::Sequence);
    let (_, weights) = common::tensors(&config, Dtype::F32);
    for (value, precision) in [(7e4, WeightPrecision::F16), (1e8, WeightPrecision::Q8)] {
        let weights = spoiled(&weights, TENSORS[0], value);
        for error in refusals(&config, &weights, precision) {
            let expected = format!("`{}` holds {value}, which", TENSORS[0]);
            assert!(error.contains(&expected), "{error}");
        }
    }
}

/// Finite weights may overflow: then there is no likeliest token, and a text of whatever comes first would say nothing.
#[test]
fn no_token_is_chosen_among_logits_that_are_no_numbers() {
    let config = common::conversational(Pooling::Prefix);
    let (_, weights) = common::tensors(&config, Dtype::F32);
    let width = config.hidden_size;
    let weights = common::edited(&weights, |name, values| {
        if name.starts_with("embed") {
            values[7 * width..][..width].fill(f32::MAX);
        }
    });
    let decode = DecodeOptions {
        depth: Depth::Forced(1),
        ..DecodeOptions::default()
    };
    let model = Model::from_parts_with(config.clone(), &weights, LoadOptions::default());
    let decoder = Decoder::new(Arc::new(model.expect("finite")), decode);
    let mut contexts = vec![Context::from(decoder.expect("fits"))];
    #[cfg(feature = "gpu")]
    {
        use mor_engine::gpu::{GpuDecoder, GpuModel};
        let gpu = common::devices::shared_gpu();
        let model = GpuModel::from_parts(gpu, config, &weights, WeightPrecision::AsStored);
        let model = Arc::new(block_on(model).expect("finite"));
        let decoder = block_on(GpuDecoder::new(model, decode)).expect("fits");
        contexts.push(Context::from(decoder));
    }
    for mut context in contexts {
        block_on(context.set_context(&[5, 7, 9])).expect("fits");
        for temperature in [0.0, 1.0] {
            let options = SamplingOptions {
                temperature,
                ..SamplingOptions::default()
            };
            let mut sampler = context.sampler(options).expect("in range");
            let chosen = block_on(context.choose(&mut sampler));
            assert!(
                matches!(chosen, Err(EngineError::NotFinite)),
                "{temperature}: {chosen:?}"
            );
        }
    }
}
