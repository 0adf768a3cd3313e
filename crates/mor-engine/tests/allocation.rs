//! Decoding a token allocates nothing.
//!
//! Alone in its file and without the standard test harness: the allocator counts for the whole process, and that harness
//! allocates in a thread of its own while a test runs.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::{Arguments, Trial};
use mor_config::{Depth, ModelConfig, Pooling, Preset};
use mor_engine::{
    DecodeOptions, Decoder, LoadOptions, Model, Sampler, SamplingOptions, WeightPrecision,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the allocator's contract, which is the system's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; all memory came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above; all memory came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn small(mut config: ModelConfig) -> ModelConfig {
    config.vocab_size = 500;
    config.hidden_size = 96;
    config.intermediate_size = 160;
    config.num_hidden_layers = 3;
    config.max_position_embeddings = 128;
    config.pad_token_id = 0;
    config
}

fn main() {
    let mut arguments = Arguments::from_args();
    // In the main thread, beside no other.
    arguments.test_threads = Some(1);
    let trial = Trial::test("decoding_allocates_nothing", || {
        decoding_allocates_nothing();
        Ok(())
    });
    libtest_mimic::run(&arguments, vec![trial]).exit();
}

fn decoding_allocates_nothing() {
    for precision in [
        WeightPrecision::F32,
        WeightPrecision::F16,
        WeightPrecision::Q8,
    ] {
        every_kind_of_decoding(precision);
    }
    changes_of_depth();
}

fn every_kind_of_decoding(precision: WeightPrecision) {
    let loading = LoadOptions {
        precision,
        ..LoadOptions::default()
    };
    let sampling = SamplingOptions {
        temperature: 1.0,
        top_p: 0.9,
        top_k: 50,
        ..SamplingOptions::default()
    };
    for preset in [Preset::TechnicalCard, Preset::Conversational198m] {
        for pooling in [Pooling::Sequence, Pooling::Real, Pooling::Prefix] {
            let mut config = small(preset.config());
            config.routing.pooling = pooling;
            let model = Model::random(config, 5, loading).expect("a model");
            let model = Arc::new(model);
            for (depth, threads) in [
                (Depth::Configured, 1),
                (Depth::Configured, 2),
                (Depth::Forced(2), 2),
            ] {
                let options = DecodeOptions {
                    depth,
                    threads,
                    ..DecodeOptions::default()
                };
                let mut decoder = Decoder::new(Arc::clone(&model), options).expect("a decoder");
                let mut sampler = Sampler::new(&model, sampling).expect("options in range");
                decoder.prefill(&[3, 1, 4, 1, 5, 9, 2, 6]).expect("fits");
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                for _ in 0..100 {
                    let choice = sampler.sample(decoder.logits(), decoder.ids());
                    decoder.push(choice.id).expect("fits");
                }
                // Another context, which begins as this one does, takes no memory either.
                decoder
                    .set_context(&[3, 1, 4, 1, 60, 61, 62])
                    .expect("fits");
                let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
                assert_eq!(
                    made, 0,
                    "{precision:?}, {preset:?}, {pooling:?}, {depth:?} on {threads} threads"
                );
            }
        }
    }
}

/// A conversational model whose depth changes as it decodes: catching up takes no memory either.
fn changes_of_depth() {
    let config = small(Preset::Conversational198m.config());
    let model = Arc::new(Model::random(config, 5, LoadOptions::default()).expect("a model"));
    let mut decoder = Decoder::new(model, DecodeOptions::default()).expect("a decoder");
    let mut depths = 0;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for start in 1..60 {
        decoder.reset();
        for id in 0..6 {
            let steps = decoder.steps()[0];
            decoder.push(start * 7 % 499 + id).expect("fits");
            depths += usize::from(id > 0 && decoder.steps()[0] != steps);
        }
    }
    let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(made, 0);
    assert!(depths > 0, "depth never changed");
}
