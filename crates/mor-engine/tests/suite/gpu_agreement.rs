//! The GPU against the CPU: every kind of routing, of weights and of kernels.
use std::sync::Arc;

use mor_config::{Depth, Limits, ModelConfig, Pooling, Positions, Weights};
use mor_engine::gpu::{Gpu, GpuDecoder, GpuModel, Variant};
use mor_engine::{DecodeOptions, Decoder, LoadOptions, Model, Routing, WeightPrecision};
use pollster::block_on;
use safetensors::Dtype;

use crate::common::{
    self, assert_close, conversational, edited, routed_configs, stored_as_int8, technical, tensors,
    with_depths,
};

const TOLERANCE: f32 = 2e-4;

fn ids(len: u32) -> Vec<u32> {
    // Some are pads.
    (0..len).map(|i| i * 7919 % 61).collect()
}

struct Pair {
    cpu: Decoder,
    gpu: GpuDecoder,
}

impl Pair {
    fn new(gpu: &Arc<Gpu>, config: &ModelConfig, options: DecodeOptions) -> Self {
        Self::stored(gpu, config, Dtype::F32, WeightPrecision::AsStored, options)
    }

    fn stored(
        gpu: &Arc<Gpu>,
        config: &ModelConfig,
        dtype: Dtype,
        precision: WeightPrecision,
        options: DecodeOptions,
    ) -> Self {
        let (_, weights) = tensors(config, dtype);
        Self::of(gpu, config, &weights, [precision; 2], options)
    }

    /// The same weights kept in one way on the CPU, in another on the GPU.
    fn of(
        gpu: &Arc<Gpu>,
        config: &ModelConfig,
        weights: &Weights,
        [cpu_precision, gpu_precision]: [WeightPrecision; 2],
        options: DecodeOptions,
    ) -> Self {
        let load = LoadOptions {
            precision: cpu_precision,
            ..LoadOptions::default()
        };
        let model = Model::from_parts_with(config.clone(), weights, load).expect("a model");
        let cpu = Decoder::new(Arc::new(model), options).expect("a decoder");
        let model = GpuModel::from_parts(Arc::clone(gpu), config.clone(), weights, gpu_precision);
        let model = Arc::new(block_on(model).expect("fits the GPU"));
        let gpu = block_on(GpuDecoder::new(model, options)).expect("a decoder");
        Self { cpu, gpu }
    }

    /// Compares all positions, and the last one's steps.
    fn compare(&mut self, tolerance: f32, what: &str) {
        let cpu = common::all_logits(&mut self.cpu);
        for (position, expected) in cpu.iter().enumerate() {
            let actual = block_on(self.gpu.logits_at(position)).expect("a position");
            assert_close(
                &actual,
                expected,
                tolerance,
                &format!("{what}, position {position}"),
            );
        }
        assert_eq!(self.gpu.steps(), self.cpu.steps(), "{what}");
    }

    fn prefill(&mut self, ids: &[u32]) {
        self.cpu.prefill(ids).expect("fits");
        block_on(self.gpu.prefill(ids)).expect("fits");
    }

    fn set_context(&mut self, ids: &[u32]) {
        self.cpu.set_context(ids).expect("fits");
        block_on(self.gpu.set_context(ids)).expect("fits");
    }
}

fn options(depth: Depth, routing: Routing) -> DecodeOptions {
    DecodeOptions {
        depth,
        routing,
        threads: 1,
    }
}

#[test]
fn every_routing_agrees() {
    for variant in Variant::ALL {
        let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
        for config in routed_configs() {
            for routing in [Routing::Live, Routing::Locked] {
                let options = options(Depth::Configured, routing);
                let mut pair = Pair::new(&gpu, &config, options);
                let pooling = config.routing.pooling;
                let what = format!(
                    "{:?}, {pooling:?}, {routing:?}, {variant}",
                    config.architecture
                );
                let ids = ids(40);
                pair.prefill(&ids[..20]);
                pair.compare(TOLERANCE, &format!("{what}, prompt"));
                for id in &ids[20..24] {
                    pair.prefill(&[*id]);
                }
                pair.compare(TOLERANCE, &format!("{what}, tokens"));
                pair.prefill(&ids[24..30]);
                pair.compare(TOLERANCE, &format!("{what}, portion"));
                // Tokens whose depth nobody asked for are dropped again, with all before them.
                for id in 1..4 {
                    pair.set_context(&ids[..2]);
                    pair.prefill(&[id]);
                    pair.set_context(&[13, 4]);
                }
                pair.compare(TOLERANCE, &format!("{what}, dropped"));
                pair.set_context(&ids[..30]);
                // Shares a part, then goes another way.
                let mut other = ids[..10].to_vec();
                other.extend([3, 5, 7, 11]);
                pair.set_context(&other);
                pair.compare(TOLERANCE, &format!("{what}, another context"));
            }
        }
    }
}

/// A launch goes on to the next layer where one takes no step: none of them, some, one after the other, the last ones.
#[test]
fn layers_without_steps_agree() {
    let mut config = technical(Positions::Rotary, Pooling::Prefix);
    config.num_hidden_layers = 6;
    let (_, weights) = tensors(&config, Dtype::F32);
    // About half of the layers, by token.
    let random = edited(&weights, |name, values| {
        if name.ends_with("complexity_classifier.3.bias") {
            values[0] += 1.0;
        }
    });
    let mut cases = vec![("random".to_owned(), random)];
    for depths in [
        [0; 6],
        [0, 0, 0, 0, 0, 1],
        [2, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 2, 0],
        [1; 6],
    ] {
        cases.push((format!("{depths:?}"), with_depths(&weights, &depths)));
    }
    let mut skipped = 0;
    for variant in Variant::ALL {
        let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
        for (name, weights) in &cases {
            for routing in [Routing::Live, Routing::Locked] {
                let options = options(Depth::Configured, routing);
                let stored = [WeightPrecision::AsStored; 2];
                let mut pair = Pair::of(&gpu, &config, weights, stored, options);
                let what = format!("{name}, {routing:?}, {variant}");
                let ids = ids(24);
                pair.prefill(&ids[..4]);
                for id in &ids[4..20] {
                    pair.prefill(&[*id]);
                    block_on(pair.gpu.logits()).expect("logits");
                    assert_eq!(pair.gpu.steps(), pair.cpu.steps(), "{what}");
                    skipped += pair.cpu.steps().iter().filter(|s| **s == 0).count();
                }
                // After them, many rows at once.
                pair.prefill(&ids[20..]);
                pair.compare(TOLERANCE, &what);
            }
        }
    }
    assert!(skipped > 0);
}

#[test]
fn every_depth_and_kind_of_position_agrees() {
    let gpu = block_on(Gpu::open()).expect("a Vulkan driver");
    for positions in [Positions::Learned, Positions::Sinusoidal, Positions::Rotary] {
        for depth in 0..=3 {
            let config = technical(positions, Pooling::Prefix);
            let options = options(Depth::Forced(depth), Routing::Live);
            let mut pair = Pair::new(&gpu, &config, options);
            pair.prefill(&ids(9));
            pair.prefill(&[5]);
            pair.compare(TOLERANCE, &format!("{positions:?} at depth {depth}"));
        }
    }
}

#[test]
fn every_kind_of_weights_agrees() {
    for variant in Variant::ALL {
        let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
        for config in [
            technical(Positions::Learned, Pooling::Prefix),
            conversational(Pooling::Prefix),
        ] {
            for (dtype, precision, tolerance) in [
                (Dtype::F16, WeightPrecision::AsStored, TOLERANCE),
                (Dtype::F32, WeightPrecision::F16, TOLERANCE),
                // The CPU rounds what int8 weights are multiplied with, too: see below.
                (Dtype::F32, WeightPrecision::Q8, 0.25),
            ] {
                let options = options(Depth::Forced(2), Routing::Live);
                let mut pair = Pair::stored(&gpu, &config, dtype, precision, options);
                pair.prefill(&ids(9));
                pair.prefill(&[5]);
                let what = format!(
                    "{:?}, {dtype:?} as {precision:?}, {variant}",
                    config.architecture
                );
                pair.compare(tolerance, &what);
            }
        }
    }
}

/// Against int8 weights that the CPU has widened, so that both multiply the same numbers.
#[test]
fn stored_int8_is_exact() {
    for config in [
        technical(Positions::Learned, Pooling::Prefix),
        conversational(Pooling::Prefix),
    ] {
        let (_, exact) = tensors(&config, Dtype::F32);
        let weights = stored_as_int8(&exact);
        for variant in Variant::ALL {
            let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
            let precisions = [WeightPrecision::F32, WeightPrecision::AsStored];
            let options = options(Depth::Forced(2), Routing::Live);
            let mut pair = Pair::of(&gpu, &config, &weights, precisions, options);
            pair.prefill(&ids(9));
            pair.prefill(&[5]);
            let what = format!("{:?}, {variant}", config.architecture);
            pair.compare(TOLERANCE, &what);
        }
    }
}

#[test]
fn long_prompts_pass_in_blocks() {
    let gpu = block_on(Gpu::open()).expect("a Vulkan driver");
    for mut config in routed_configs() {
        config.max_position_embeddings = 300;
        for routing in [Routing::Live, Routing::Locked] {
            let options = options(Depth::Configured, routing);
            let mut pair = Pair::new(&gpu, &config, options);
            pair.prefill(&ids(290));
            pair.prefill(&[5]);
            let actual = block_on(pair.gpu.logits()).expect("logits");
            let what = format!(
                "{:?}, {:?}, {routing:?}",
                config.architecture, config.routing.pooling
            );
            assert_close(&actual, pair.cpu.logits(), TOLERANCE, &what);
            assert_eq!(pair.gpu.steps(), pair.cpu.steps(), "{what}");
        }
    }
}

#[test]
fn long_contexts_of_wide_heads_agree() {
    // Some drivers end an invocation's loops after 65,535 rounds in all: less than every key's columns.
    for variant in Variant::ALL {
        let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
        let mut config = conversational(Pooling::Prefix);
        config.max_position_embeddings = 2100;
        config.hidden_size = 64;
        config.num_attention_heads = 1;
        config.num_hidden_layers = 1;
        let options = options(Depth::Forced(1), Routing::Live);
        let mut pair = Pair::new(&gpu, &config, options);
        for ids in [&ids(2000)[..], &[5]] {
            pair.prefill(ids);
            let actual = block_on(pair.gpu.logits()).expect("logits");
            assert_close(&actual, pair.cpu.logits(), TOLERANCE, variant.name());
        }
    }
}

#[test]
fn what_a_processor_would_not_finish_is_refused() {
    for variant in Variant::ALL {
        let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
        let mut config = conversational(Pooling::Prefix);
        config.max_position_embeddings = Limits::CONTEXT;
        let model = GpuModel::random(gpu, config, 1, WeightPrecision::F32);
        let model = Arc::new(block_on(model).expect("fits"));
        let error = block_on(GpuDecoder::new(model, DecodeOptions::default()));
        let error = error.expect_err("too many keys").to_string();
        assert!(error.contains("attention loops over"), "{error}");
    }
}

#[test]
fn what_is_no_number_stays_none() {
    for variant in Variant::ALL {
        let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
        let config = conversational(Pooling::Prefix);
        let (_, weights) = tensors(&config, Dtype::F32);
        let weights = edited(&weights, |name, values| {
            if name.starts_with("embed") {
                // Each is a number, as weights have to be, and their sum is none.
                values[7 * config.hidden_size..][..config.hidden_size].fill(f32::MAX);
            }
        });
        let options = options(Depth::Forced(1), Routing::Live);
        let model = GpuModel::from_parts(gpu, config, &weights, WeightPrecision::AsStored);
        let model = Arc::new(block_on(model).expect("fits"));
        // Read together, and one by one.
        for portion in [3, 1] {
            let mut decoder = block_on(GpuDecoder::new(Arc::clone(&model), options)).expect("fits");
            for ids in [5, 7, 9].chunks(portion) {
                block_on(decoder.prefill(ids)).expect("fits");
            }
            let logits = block_on(decoder.logits()).expect("logits");
            assert!(
                logits[0].is_nan(),
                "{variant}, {portion} at once: {logits:?}"
            );
        }
    }
}
