//! The reference implementations' outputs on the GPU, with every variant of the kernels: logits to 1e-4, steps and ids
//! exactly.
use std::sync::Arc;

use mor_config::Depth;
use mor_engine::gpu::{Gpu, GpuDecoder, GpuModel, Variant};
use mor_engine::{DecodeOptions, SamplingOptions, WeightPrecision};
use pollster::block_on;

use crate::common::goldens::{GoldenRow, golden_rows, golden_texts};
use crate::common::{assert_close, golden, golden_config};

const TOLERANCE: f32 = 1e-4;

fn model(set: &str, variant: Variant) -> Arc<GpuModel> {
    let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
    let weights = golden(set, "weights");
    let model = GpuModel::from_parts(gpu, golden_config(set), &weights, WeightPrecision::AsStored);
    Arc::new(block_on(model).expect("the golden model"))
}

fn decoder(model: &Arc<GpuModel>, depth: Depth) -> GpuDecoder {
    let options = DecodeOptions {
        depth,
        ..DecodeOptions::default()
    };
    block_on(GpuDecoder::new(Arc::clone(model), options)).expect("a decoder")
}

fn steps(decoder: &GpuDecoder) -> Vec<u32> {
    decoder.steps().iter().map(|s| u32::from(*s)).collect()
}

/// Runs one row whole, then in portions, and compares every position.
fn check_row(decoder: &mut GpuDecoder, row: &GoldenRow, variant: Variant) {
    // How a row is cut concerns no kernel's variant.
    let portions = match variant {
        Variant::Portable => vec![row.ids.len(), 1, 3],
        _ => vec![row.ids.len(), 1],
    };
    for portion in portions {
        decoder.reset();
        for ids in row.ids.chunks(portion) {
            block_on(decoder.prefill(ids)).expect("fits");
        }
        let what = format!("{} in portions of {portion}, {variant}", row.what);
        assert_eq!(row.logits.len(), row.ids.len());
        for (position, expected) in row.logits.iter().enumerate() {
            let actual = block_on(decoder.logits_at(position)).expect("a position");
            let what = format!("{what}, position {position}");
            assert_close(&actual, expected, TOLERANCE, &what);
        }
        assert_eq!(steps(decoder), row.steps, "{what}");
    }
}

#[test]
fn every_row_matches_alone() {
    for set in ["m1_learned", "m2"] {
        let rows = golden_rows(set);
        for variant in Variant::ALL {
            let model = model(set, variant);
            for row in &rows {
                check_row(&mut decoder(&model, row.depth), row, variant);
            }
        }
    }
}

#[test]
fn generation_matches() {
    let greedy = SamplingOptions::default();
    for variant in Variant::ALL {
        for set in ["m1_learned", "m2"] {
            let model = model(set, variant);
            for text in golden_texts(set) {
                let mut ids = text.prompt.clone();
                let mut decoder = decoder(&model, Depth::Configured);
                for (i, expected) in text.generated.iter().enumerate() {
                    let what = format!("{}, {variant}, token {i}", text.what);
                    let window = &ids[ids.len().saturating_sub(text.window)..];
                    block_on(decoder.set_context(window)).expect("fits");
                    let choice = block_on(decoder.sample(&greedy, 0.0)).expect("a token");
                    assert_eq!(steps(&decoder), text.steps[i], "{what}");
                    assert_eq!(choice.id, *expected, "{what}");
                    ids.push(choice.id);
                }
            }
        }
    }
}
