//! Decoding a token allocates nothing.
//!
//! Alone in its file: the allocator counts for the whole process.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mor_config::{Depth, ModelConfig, Preset};
use mor_engine::{
    DecodeOptions, Decoder, LoadOptions, Model, Sampler, SamplingOptions, WeightPrecision,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn decoding_allocates_nothing() {
    let mut config = Preset::TechnicalCard.config();
    config.vocab_size = 500;
    config.hidden_size = 96;
    config.intermediate_size = 160;
    config.num_hidden_layers = 3;
    for precision in [WeightPrecision::F32, WeightPrecision::Q8] {
        check(config.clone(), precision);
    }
}

fn check(config: ModelConfig, precision: WeightPrecision) {
    let options = LoadOptions {
        precision,
        ..LoadOptions::default()
    };
    let model = Arc::new(Model::random(config, 5, options).expect("a model"));
    let sampling = SamplingOptions {
        temperature: 1.0,
        top_p: 0.9,
        top_k: 50,
        ..SamplingOptions::default()
    };
    for (depth, threads) in [
        (Depth::Configured, 1),
        (Depth::Configured, 2),
        (Depth::Forced(2), 2),
    ] {
        let options = DecodeOptions { depth, threads };
        let mut decoder = Decoder::new(Arc::clone(&model), options).expect("a decoder");
        let mut sampler = Sampler::new(&model, sampling).expect("options in range");
        decoder.prefill(&[3, 1, 4, 1, 5, 9, 2, 6]).expect("fits");
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..100 {
            let choice = sampler.sample(decoder.logits(), decoder.ids());
            decoder.push(choice.id).expect("fits");
        }
        let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(made, 0, "{depth:?} on {threads} threads");
    }
}
