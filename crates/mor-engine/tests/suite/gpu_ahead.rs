//! Kernels that are compiled before the weights are there.

use std::sync::Arc;

use crate::common::{conversational, stored_as_int8, technical, tensors};
use mor_config::{Depth, Limits, ModelConfig, Pooling, Positions, Weights};
use mor_engine::gpu::{Gpu, GpuDecoder, GpuModel, Variant};
use mor_engine::{DecodeOptions, Routing, WeightPrecision};
use pollster::block_on;
use safetensors::Dtype;

/// How a file of such weights begins.
fn header(weights: &Weights) -> Vec<u8> {
    let entry = |name: String| {
        let (dtype, shape, _) = weights.raw(&name).expect("there");
        (name, dtype, shape.to_vec())
    };
    begin(weights.names().into_iter().map(entry))
}

fn begin(tensors: impl Iterator<Item = (String, Dtype, Vec<usize>)>) -> Vec<u8> {
    let entries = tensors.map(|(name, dtype, shape)| {
        format!(r#""{name}":{{"dtype":"{dtype:?}","shape":{shape:?},"data_offsets":[0,0]}}"#)
    });
    let json = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend_from_slice(json.as_bytes());
    header
}

/// Compiles ahead and then for the model itself; the second time there must be nothing left to do.
fn check(config: &ModelConfig, weights: &Weights, options: DecodeOptions) {
    let gpu = block_on(Gpu::open()).expect("a Vulkan driver");
    let header = header(weights);
    let ahead = |start: &[u8]| {
        GpuModel::compile_ahead(&gpu, config, start, options).expect("a valid configuration")
    };
    assert!(!ahead(&[]) && !ahead(&header[..header.len() - 1]));
    assert_eq!(gpu.compiled(), 0);
    assert!(ahead(&header));
    block_on(gpu.settle()).expect("compiles");
    let compiled = gpu.compiled();
    assert!(compiled > 10, "{compiled}");

    let precision = WeightPrecision::AsStored;
    let model = GpuModel::from_parts(Arc::clone(&gpu), config.clone(), weights, precision);
    let model = Arc::new(block_on(model).expect("a model"));
    block_on(GpuDecoder::new(model, options)).expect("a decoder");
    assert_eq!(gpu.compiled(), compiled, "{config:?}, {options:?}");
}

#[test]
fn nothing_is_left_to_compile() {
    for config in [
        technical(Positions::Rotary, Pooling::Prefix),
        technical(Positions::Learned, Pooling::Sequence),
        conversational(Pooling::Prefix),
    ] {
        let (_, exact) = tensors(&config, Dtype::F32);
        let (_, half) = tensors(&config, Dtype::F16);
        let options = |depth, routing| DecodeOptions {
            depth,
            routing,
            ..DecodeOptions::default()
        };
        for options in [
            options(Depth::Configured, Routing::Live),
            options(Depth::Configured, Routing::Locked),
            options(Depth::Forced(2), Routing::Live),
        ] {
            for weights in [&exact, &half, &stored_as_int8(&exact)] {
                check(&config, weights, options);
            }
        }
    }
}

#[test]
fn an_adaptive_embedding_is_no_exception() {
    let mut config = technical(Positions::Rotary, Pooling::Prefix);
    config.adaptive_embedding = Some(mor_config::AdaptiveEmbedding {
        cutoffs: vec![20, 40],
        div_val: 2,
    });
    config.tie_word_embeddings = false;
    let (_, weights) = tensors(&config, Dtype::F16);
    check(&config, &weights, DecodeOptions::default());
}

#[test]
fn a_configuration_of_other_weights_costs_nothing() {
    let mut config = conversational(Pooling::Prefix);
    let (_, weights) = tensors(&config, Dtype::F32);
    config.hidden_size = Limits::WIDTH;
    config.max_position_embeddings = Limits::CONTEXT;
    let gpu = block_on(Gpu::open()).expect("a Vulkan driver");
    let options = DecodeOptions::default();
    let done = GpuModel::compile_ahead(&gpu, &config, &header(&weights), options);
    // There is nothing that waiting for more of them could change.
    assert!(done.expect("valid in itself"));
    assert_eq!(gpu.compiled(), 0);
}

/// A header alone may name any size; memory for it would be the page's end.
#[test]
fn sizes_that_no_gpu_holds_cost_nothing() {
    let gpu = block_on(Gpu::open_with(Some(Variant::Workgroup))).expect("a Vulkan driver");
    let wide = |config: ModelConfig| ModelConfig {
        hidden_size: Limits::WIDTH,
        ..config
    };
    let long = |config: ModelConfig| ModelConfig {
        max_position_embeddings: Limits::CONTEXT,
        ..wide(config)
    };
    // More than a workgroup of this GPU shares.
    let few_heads = |config: ModelConfig| ModelConfig {
        hidden_size: 1 << 14,
        num_attention_heads: 1,
        ..config
    };
    for config in [
        wide(technical(Positions::Rotary, Pooling::Sequence)),
        long(technical(Positions::Learned, Pooling::Prefix)),
        long(technical(Positions::Sinusoidal, Pooling::Prefix)),
        wide(conversational(Pooling::Real)),
        few_heads(conversational(Pooling::Prefix)),
    ] {
        let tensors = config.tensors().into_iter();
        let start = begin(tensors.map(|spec| (spec.name, Dtype::F16, spec.shape)));
        let options = DecodeOptions::default();
        let done = GpuModel::compile_ahead(&gpu, &config, &start, options);
        assert!(done.expect("valid in itself"));
        assert_eq!(gpu.compiled(), 0, "{config:?}");
    }
}
