//! The reference implementations' outputs on the GPU, with every variant of the kernels: logits to 1e-4, steps and ids
//! exactly.
use std::sync::Arc;

use mor_config::Depth;
use mor_engine::gpu::{Gpu, GpuDecoder, GpuModel, Variant};
use mor_engine::{DecodeOptions, Routing, SamplingOptions, WeightPrecision};
use pollster::block_on;

use crate::common::{assert_close, golden, golden_config, rows};

const TOLERANCE: f32 = 1e-4;

fn model(set: &str, variant: Variant) -> Arc<GpuModel> {
    let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
    let weights = golden(set, "weights");
    let model = GpuModel::from_parts(gpu, golden_config(set), &weights, WeightPrecision::AsStored);
    Arc::new(block_on(model).expect("the golden model"))
}

fn decoder(model: &Arc<GpuModel>, depth: Depth, routing: Routing) -> GpuDecoder {
    let options = DecodeOptions {
        depth,
        routing,
        ..DecodeOptions::default()
    };
    block_on(GpuDecoder::new(Arc::clone(model), options)).expect("a decoder")
}

/// Runs one row whole, then in portions, and compares every position.
fn check_row(decoder: &mut GpuDecoder, ids: &[u32], logits: &[f32], steps: &[u32], what: &str) {
    for portion in [ids.len(), 1, 3] {
        decoder.reset();
        for ids in ids.chunks(portion) {
            block_on(decoder.prefill(ids)).expect("fits");
        }
        let what = format!("{what} in portions of {portion}");
        for (position, expected) in logits.chunks_exact(97).enumerate() {
            let row = block_on(decoder.logits_at(position)).expect("a position");
            assert_close(
                &row,
                expected,
                TOLERANCE,
                &format!("{what}, position {position}"),
            );
        }
        let actual: Vec<u32> = decoder.steps().iter().map(|s| u32::from(*s)).collect();
        assert_eq!(actual, steps, "{what}");
    }
}

/// Cases of one row each.
fn check_single_rows(decoder: &mut GpuDecoder, set: &str, cases: &[&str]) {
    for case in cases {
        let file = golden(set, &format!("{case}.io"));
        let steps = rows(&file, "steps").concat();
        let logits = file.to_f32("logits").expect("logits");
        let what = format!("{case}, {}", decoder.gpu().variant());
        check_row(
            decoder,
            &rows(&file, "input_ids")[0],
            &logits,
            &steps,
            &what,
        );
    }
}

#[test]
fn single_rows_match() {
    for variant in Variant::ALL {
        let technical = model("m1_learned", variant);
        let mut decoder = decoder(&technical, Depth::Configured, Routing::Live);
        check_single_rows(
            &mut decoder,
            "m1_learned",
            &["b1_len1", "b1_len7", "b1_len32"],
        );
    }
}

#[test]
fn a_forced_depth_matches_the_fixed_router() {
    let file = golden("m1_learned", "fixed4_b2_len9.io");
    let logits = file.to_f32("logits").expect("logits");
    for variant in Variant::ALL {
        let technical = model("m1_learned", variant);
        let mut decoder = decoder(&technical, Depth::Forced(4), Routing::Live);
        for (row, ids) in rows(&file, "input_ids").iter().enumerate() {
            let logits = &logits[row * 9 * 97..][..9 * 97];
            check_row(
                &mut decoder,
                ids,
                logits,
                &[4; 3],
                &format!("row {row}, {variant}"),
            );
        }
    }
}

#[test]
fn conversational_rows_match() {
    for variant in Variant::ALL {
        let conversational = model("m2", variant);
        let mut decoder = decoder(&conversational, Depth::Configured, Routing::Live);
        check_single_rows(&mut decoder, "m2", &["b1_len1", "b1_len32"]);
        let file = golden("m2", "b4_len16.io");
        let logits = file.to_f32("logits").expect("logits");
        let steps = rows(&file, "steps").concat();
        for (row, ids) in rows(&file, "input_ids").iter().enumerate() {
            let logits = &logits[row * 16 * 97..][..16 * 97];
            let what = format!("row {row}, {variant}");
            check_row(&mut decoder, ids, logits, &steps[row..=row], &what);
        }
    }
}

#[test]
fn generation_matches() {
    let sets = [("m1_learned", 32), ("m2", 64)];
    let greedy = SamplingOptions::default();
    for variant in Variant::ALL {
        for (set, window) in sets {
            let model = model(set, variant);
            for case in ["gen_depth_changes", "gen_steady"] {
                let file = golden(set, &format!("{case}.io"));
                let mut ids = rows(&file, "prompt_ids").concat();
                let generated = rows(&file, "generated_ids").concat();
                let steps = rows(&file, "steps_per_token");
                let mut decoder = decoder(&model, Depth::Configured, Routing::Live);
                for (i, expected) in generated.iter().enumerate() {
                    let what = format!("{set} {case}, {variant}, token {i}");
                    let window = &ids[ids.len().saturating_sub(window)..];
                    block_on(decoder.set_context(window)).expect("fits");
                    let choice = block_on(decoder.sample(&greedy, 0.0)).expect("a token");
                    let actual: Vec<u32> = decoder.steps().iter().map(|s| u32::from(*s)).collect();
                    assert_eq!(actual, steps[i.min(steps.len() - 1)], "{what}");
                    assert_eq!(choice.id, *expected, "{what}");
                    ids.push(choice.id);
                }
            }
        }
    }
}
