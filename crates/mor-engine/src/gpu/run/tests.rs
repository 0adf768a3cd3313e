//! What decoders leave in their buffers.

use std::collections::HashMap;
use std::sync::Arc;

use mor_config::{ModelConfig, Pooling, Preset};
use mor_shaders::Variant;
use pollster::block_on;

use super::GpuDecoder;
use crate::gpu::device::{Gpu, Slice};
use crate::gpu::weights::GpuModel;
use crate::model::{Tensor, random};
use crate::{DecodeOptions, Routing, WeightPrecision};

fn config(preset: Preset, pooling: Pooling) -> ModelConfig {
    let mut config = preset.config();
    config.vocab_size = 61;
    config.pad_token_id = 0;
    config.hidden_size = 48;
    config.num_hidden_layers = 3;
    config.num_attention_heads = 2;
    config.intermediate_size = 72;
    config.max_position_embeddings = 48;
    config.routing.pooling = pooling;
    config
}

/// Random weights whose routers tell tokens apart.
fn decoder(gpu: &Arc<Gpu>, config: &ModelConfig, routing: Routing) -> GpuDecoder {
    let tensors = config.tensors().into_iter();
    let shapes: HashMap<_, _> = tensors.map(|spec| (spec.name, spec.shape)).collect();
    let tensor = |name: &str| {
        let mut values = random::tensor(name, &shapes[name], 3);
        if name.contains("router") || name.contains("embed") {
            values.iter_mut().for_each(|value| *value *= 8.0);
        }
        Ok(Tensor::made(values))
    };
    let precision = WeightPrecision::AsStored;
    let model = GpuModel::build(Arc::clone(gpu), config.clone(), precision, &tensor);
    let options = DecodeOptions {
        routing,
        ..DecodeOptions::default()
    };
    let model = Arc::new(block_on(model).expect("fits"));
    block_on(GpuDecoder::new(model, options)).expect("a decoder")
}

/// The sizes of a decoded token's dispatches, as routers wrote them.
fn arguments(decoder: &mut GpuDecoder) -> Vec<u32> {
    let sizes = decoder.buffers.arguments.clone();
    let readable = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let staging = decoder.gpu().buffer("sizes", sizes.size, readable);
    let staging = staging.expect("small");
    let to = Slice {
        buffer: staging.clone(),
        ..sizes.clone()
    };
    decoder.recorder.copy(sizes, to);
    bytemuck::pod_collect_to_vec(&block_on(decoder.recorder.read(&staging)).expect("readable"))
}

#[test]
fn dispatches_are_empty_exactly_where_a_step_is_not_taken() {
    for variant in Variant::ALL {
        let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
        let mut seen = [false; 6];
        for preset in [Preset::TechnicalCard, Preset::Conversational198m] {
            for (pooling, routing) in [
                (Pooling::Prefix, Routing::Live),
                (Pooling::Prefix, Routing::Locked),
                (Pooling::Sequence, Routing::Locked),
                (Pooling::Real, Routing::Live),
            ] {
                let config = config(preset, pooling);
                let what = format!("{preset:?}, {pooling:?}, {routing:?}, {variant}");
                let mut decoder = decoder(&gpu, &config, routing);
                block_on(decoder.prefill(&[7, 20, 41])).expect("fits");
                for token in 0..12 {
                    block_on(decoder.push(token * 23 % 60 + 1)).expect("fits");
                    block_on(decoder.logits()).expect("logits");
                    let sizes = arguments(&mut decoder);
                    let router = decoder.router.as_ref().expect("routed").decision.clone();
                    let layers = decoder.model.layers.iter().enumerate();
                    let recursive = layers.filter(|(_, layer)| layer.recurs);
                    for ((layer, _), depth) in recursive.zip(&decoder.steps) {
                        seen[usize::from(*depth)] = true;
                        for step in 0..config.routing.max_steps {
                            for operation in 0..router.grids.len() {
                                let at = router.argument(layer, step, operation) as usize / 4;
                                let empty = sizes[at..][..3].contains(&0);
                                let taken = step < usize::from(*depth);
                                assert_eq!(empty, !taken, "{what}: {depth} steps, step {step}");
                            }
                        }
                    }
                }
            }
        }
        assert!(seen.iter().filter(|seen| **seen).count() > 2, "{seen:?}");
    }
}
