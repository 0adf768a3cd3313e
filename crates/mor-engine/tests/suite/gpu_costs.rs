//! What a decoded token asks of a GPU: the counters that make it fast on real hardware.
use std::sync::Arc;

use mor_config::{Depth, ModelConfig, Pooling, Positions, Preset};
use mor_engine::bench::BenchOptions;
use mor_engine::gpu::{Counters, GpuDecoder, GpuModel, bench};
use mor_engine::{DecodeOptions, Routing, WeightPrecision};
use pollster::block_on;
use safetensors::Dtype;

use crate::common::devices::shared_gpu;
use crate::common::{conversational, technical, tensors, with_depths};

fn costs(
    config: ModelConfig,
    depth: Depth,
    routing: Routing,
    precision: WeightPrecision,
) -> bench::GpuBenchReport {
    let model = GpuModel::random(shared_gpu(), config, 1, precision);
    measured(&Arc::new(block_on(model).expect("fits")), depth, routing)
}

fn measured(model: &Arc<GpuModel>, depth: Depth, routing: Routing) -> bench::GpuBenchReport {
    let options = BenchOptions {
        decode: DecodeOptions {
            depth,
            routing,
            ..DecodeOptions::default()
        },
        prompt_tokens: 5,
        new_tokens: 6,
        runs: 1,
    };
    block_on(bench::decode(model, options)).expect("measured")
}

/// Both cards' shapes, with rows narrow enough for a processor that plays the GPU, but not so narrow that what kernels
/// hand to one another would count for more than in a real model.
fn narrow(preset: Preset) -> ModelConfig {
    let mut config = preset.config();
    config.hidden_size = 192;
    config.intermediate_size = 512;
    config.vocab_size = 512;
    config.pad_token_id = 0;
    config
}

fn pooled(preset: Preset, pooling: Pooling) -> ModelConfig {
    let mut config = narrow(preset);
    config.routing.pooling = pooling;
    config
}

fn check_bytes(report: &bench::GpuBenchReport, what: &str) {
    let bytes = report.counters.bytes_read as f64 / report.needed_bytes as f64;
    assert!((1.0..=1.1).contains(&bytes), "{bytes}: {what}");
}

#[test]
fn a_token_costs_few_launches_one_submit_and_one_read_back() {
    use WeightPrecision::{AsStored, F16, Q8};
    for (preset, depth, precision) in [
        (Preset::Technical10m, Depth::Configured, AsStored),
        (Preset::Technical10m, Depth::Configured, F16),
        (Preset::Technical10m, Depth::Forced(1), AsStored),
        (Preset::TechnicalCard, Depth::Forced(4), AsStored),
        (Preset::Conversational198m, Depth::Forced(1), AsStored),
        (Preset::Conversational198m, Depth::Forced(5), AsStored),
        (Preset::Conversational198m, Depth::Forced(3), Q8),
    ] {
        let report = costs(narrow(preset), depth, Routing::Live, precision);
        let what = format!("{preset:?} at {depth:?}, {precision:?}: {report:?}");
        assert!(report.launches_beyond(7) <= 6.0, "{what}");
        assert_eq!(report.counters.submits, report.tokens, "{what}");
        assert_eq!(report.counters.readbacks, report.tokens, "{what}");
        check_bytes(&report, &what);
    }
}

/// Where routers decide from what is known by then, or decided on the prompt.
#[test]
fn a_routed_token_costs_no_more() {
    for preset in [Preset::TechnicalCard, Preset::Conversational198m] {
        for (pooling, routing) in [
            (Pooling::Prefix, Routing::Live),
            (Pooling::Prefix, Routing::Locked),
            (Pooling::Sequence, Routing::Locked),
            (Pooling::Real, Routing::Locked),
        ] {
            let config = pooled(preset, pooling);
            let precision = WeightPrecision::AsStored;
            let report = costs(config, Depth::Configured, routing, precision);
            let what = format!("{preset:?}, {pooling:?}, {routing:?}: {report:?}");
            assert!(report.launches_beyond(7) <= 6.0, "{what}");
            assert_eq!(report.counters.submits, report.tokens, "{what}");
            assert_eq!(report.counters.readbacks, report.tokens, "{what}");
            check_bytes(&report, &what);
        }
    }
}

/// However few steps the layers take together, down to none: routers have no launch of their own.
#[test]
fn layers_without_steps_cost_no_launch() {
    for (pooling, routing) in [
        (Pooling::Prefix, Routing::Live),
        (Pooling::Prefix, Routing::Locked),
        (Pooling::Real, Routing::Locked),
    ] {
        let config = pooled(Preset::TechnicalCard, pooling);
        let (_, weights) = tensors(&config, Dtype::F32);
        for depths in [
            [0; 6],
            [1, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 1],
            [0, 1, 0, 0, 2, 0],
            [4, 0, 1, 1, 0, 3],
        ] {
            let weights = with_depths(&weights, &depths);
            let precision = WeightPrecision::AsStored;
            let model = GpuModel::from_parts(shared_gpu(), config.clone(), &weights, precision);
            let model = Arc::new(block_on(model).expect("fits"));
            let report = measured(&model, Depth::Configured, routing);
            let what = format!("{depths:?}, {pooling:?}, {routing:?}: {report:?}");
            let steps: usize = depths.iter().sum();
            assert_eq!(report.block_steps, report.tokens * steps as u64, "{what}");
            // Embedding, first router, finish, head and sample; six a step; the row is settled before the next router.
            let settled = depths[..5].iter().filter(|depth| **depth > 0).count();
            let launches = (5 + 6 * steps + settled) as u64;
            assert_eq!(report.counters.launches, report.tokens * launches, "{what}");
            assert!(report.launches_beyond(7) <= 6.0, "{what}");
            assert_eq!(report.counters.submits, report.tokens, "{what}");
            assert_eq!(report.counters.readbacks, report.tokens, "{what}");
            check_bytes(&report, &what);
        }
    }
}

#[test]
fn steps_that_are_not_taken_are_not_launched() {
    let at = |depth| {
        let config = narrow(Preset::Conversational198m);
        let precision = WeightPrecision::AsStored;
        costs(config, Depth::Forced(depth), Routing::Live, precision)
    };
    let (one, five) = (at(1), at(5));
    let per_token = |report: &bench::GpuBenchReport| report.counters.launches / report.tokens;
    let once = u64::try_from(Preset::Conversational198m.config().num_hidden_layers).expect("few");
    // What a block step launches: all but the four launches around the blocks.
    let step = (per_token(&one) - 4) / (once + 1);
    assert_eq!(per_token(&five) - per_token(&one), 4 * step);
    assert!(five.needed_bytes > one.needed_bytes);
}

fn live(config: &ModelConfig) -> GpuDecoder {
    let (_, weights) = tensors(config, Dtype::F32);
    let precision = WeightPrecision::AsStored;
    let model = GpuModel::from_parts(shared_gpu(), config.clone(), &weights, precision);
    let model = Arc::new(block_on(model).expect("fits"));
    block_on(GpuDecoder::new(model, DecodeOptions::default())).expect("a decoder")
}

/// What tokens cost one by one: those that change no depth, and those that do.
fn live_costs(config: &ModelConfig) -> [Vec<Counters>; 2] {
    let mut decoder = live(config);
    block_on(decoder.prefill(&[9])).expect("fits");
    block_on(decoder.logits()).expect("logits");
    let (mut steady, mut changed) = (Vec::new(), Vec::new());
    for i in 1..config.max_position_embeddings as u32 {
        let (before, steps) = (decoder.counters(), decoder.steps().to_vec());
        block_on(decoder.push((i * 23 + 9) % 61)).expect("fits");
        block_on(decoder.logits()).expect("logits");
        let cost = decoder.counters() - before;
        match decoder.steps() == steps {
            true => steady.push(cost),
            false => changed.push(cost),
        }
    }
    assert!(steady.len() > 5 && !changed.is_empty());
    // A pooled router that decides with every token is believed to decide as before, which its result tells.
    let one = |cost: &Counters| (cost.submits, cost.readbacks) == (1, 1);
    assert!(steady.iter().all(one), "{steady:?}");
    [steady, changed]
}

#[test]
fn a_change_of_a_layers_depth_asks_every_layer_again() {
    let config = technical(Positions::Rotary, Pooling::Real);
    let [_, changed] = live_costs(&config);
    let layers = config.num_hidden_layers as u64;
    let reads = |cost: &Counters| cost.readbacks == layers + 2;
    assert!(changed.iter().all(reads), "{changed:?}");
}

#[test]
fn a_change_of_the_shared_blocks_depth_costs_its_missing_steps_alone() {
    let mut config = conversational(Pooling::Real);
    config.num_hidden_layers = 12;
    let [steady, changed] = live_costs(&config);
    assert!(
        changed.iter().all(|cost| cost.readbacks == 2),
        "{changed:?}"
    );
    let most = steady.iter().map(|cost| cost.launches).max().expect("some");
    // The blocks before it, of eight launches each, run for no position again: they alone would cost as much.
    let limit = most + 8 * config.num_hidden_layers as u64;
    assert!(
        changed.iter().all(|cost| cost.launches < limit),
        "{steady:?}, {changed:?}"
    );
}

/// As in a conversation: an answer token by token, then the next question.
#[test]
fn what_follows_decoded_tokens_does_not_read_them_again() {
    let mut config = conversational(Pooling::Real);
    config.num_hidden_layers = 12;
    config.max_position_embeddings = 400;
    let mut decoder = live(&config);
    let ids: Vec<u32> = (0..300).map(|i| (i * 23 + 9) % 61).collect();
    block_on(decoder.prefill(&ids)).expect("fits");
    for id in [5, 6, 7] {
        block_on(decoder.push(id)).expect("fits");
        block_on(decoder.logits()).expect("logits");
    }
    let before = decoder.counters();
    block_on(decoder.prefill(&[8, 9, 10])).expect("fits");
    block_on(decoder.logits()).expect("logits");
    let cost = decoder.counters() - before;
    // Three tokens pass the blocks in one go; at most all positions, in three, catch up on five steps.
    let limit = 8 * 12 + 3 * 8 * 5 + 12;
    assert!(cost.launches <= limit, "{cost:?}");
}

#[test]
fn what_does_not_fit_says_so() {
    let mut config = narrow(Preset::Technical10m);
    config.vocab_size = 1 << 20;
    config.hidden_size = 6 * 128;
    // Its token table alone is larger than any buffer of this adapter.
    let model = GpuModel::random(shared_gpu(), config, 1, WeightPrecision::F32);
    let error = block_on(model).expect_err("too large").to_string();
    assert!(
        error.contains("--dtype") && error.contains("allows"),
        "{error}"
    );
}
