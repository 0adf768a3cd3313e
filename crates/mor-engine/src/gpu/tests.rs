//! What decoders leave in their buffers.

use std::collections::HashMap;
use std::sync::Arc;

use mor_config::{ModelConfig, Pooling, Preset};
use mor_shaders::{Storage, Variant};
use pollster::block_on;

use super::buffer::Slice;
use super::upload::GpuSource;
use super::{Gpu, GpuDecoder, GpuModel};
use crate::model::{Source, Stored, Tensor, random};
use crate::{DecodeOptions, EngineError, Routing, WeightPrecision};

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

#[test]
fn what_no_buffer_holds_is_refused_before_it_is_packed() {
    let gpu = block_on(Gpu::open()).expect("a Vulkan driver");
    let source = GpuSource {
        gpu: &gpu,
        tensor: &|_| Ok(Tensor::zeros(Stored::F32, 1 << 44)),
        precision: WeightPrecision::F32,
        blank: None,
    };
    let error = source.matrix(&["weight"], 1 << 10).map(drop);
    let error = error.expect_err("too large");
    assert!(
        matches!(error, EngineError::GpuLimit { needed, .. } if needed == 1 << 46),
        "{error:?}"
    );
}

/// Where shaders cannot unpack f16, weights stored so are widened, and nobody else's wish is overruled.
#[test]
fn half_precision_is_kept_where_it_can_be_unpacked() {
    let mut gpu = block_on(Gpu::open()).expect("a Vulkan driver");
    let stored = |gpu: &Arc<Gpu>, precision| {
        let source = GpuSource {
            gpu,
            tensor: &|_| Ok(Tensor::zeros(Stored::F16, 64)),
            precision,
            blank: None,
        };
        let uploaded = source.matrix(&["weight"], 64);
        uploaded.map(|uploaded| uploaded.matrix.storage)
    };
    let (as_stored, f16) = (WeightPrecision::AsStored, WeightPrecision::F16);
    assert_eq!(stored(&gpu, as_stored).ok(), Some(Storage::F16));
    Arc::get_mut(&mut gpu).expect("nobody else's").unpacks_f16 = false;
    assert_eq!(stored(&gpu, as_stored).ok(), Some(Storage::F32));
    let error = stored(&gpu, f16).expect_err("it cannot").to_string();
    assert!(
        error.contains("f16") && error.contains("--dtype"),
        "{error}"
    );
}

/// Sizes of matrices do not overflow, whatever a file says.
#[test]
fn sizes_saturate() {
    let most = usize::MAX;
    for storage in [Storage::F32, Storage::F16, Storage::Q8] {
        assert_eq!(storage.bytes(most, most), u64::MAX, "{storage:?}");
    }
}
