//! A GPU whose memory is full: said as such, and another device goes on.
//!
//! Alone in its file: the memory that is taken away is the whole process's, from which drivers that play a GPU on the
//! processor take theirs.
#![cfg(all(feature = "gpu", target_os = "linux"))]

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use mor_config::{Depth, ModelConfig, Preset};
use mor_engine::gpu::{Gpu, GpuDecoder, GpuModel};
use mor_engine::{
    Context, DecodeOptions, Decoder, EngineError, LoadOptions, Model, SamplingOptions,
    WeightPrecision,
};
use pollster::block_on;

/// Room for what the test itself allocates, less than any driver takes at once for weights.
const SLACK: u64 = 40 << 20;

/// Weights of 240 MB in matrices of at most 6.
fn config() -> ModelConfig {
    let mut config = Preset::TechnicalCard.config();
    config.vocab_size = 4_000;
    config.num_hidden_layers = 24;
    config
}

/// One test at a time: they share the process's memory.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs something in a process whose address space may grow by [`SLACK`] and no more.
fn without_memory<T>(run: impl FnOnce() -> T) -> T {
    let limit = format!("prlimit --pid={} --as=", std::process::id());
    // Waits since before: a process without memory starts no other.
    let mut lift = Command::new("sh")
        .args(["-c", &format!("read line; {limit}unlimited:unlimited")])
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let set = format!("{limit}{}:unlimited", taken() + SLACK);
    let set = Command::new("sh").args(["-c", &set]).status();
    assert!(
        set.expect("there is a shell").success(),
        "prlimit is part of util-linux"
    );
    let result = run();
    drop(lift.stdin.take());
    lift.wait().expect("a child");
    result
}

/// The address space that this process has.
fn taken() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("readable");
    let pages = status.split_whitespace().next().expect("a number");
    pages.parse::<u64>().expect("a number") * 4096
}

fn gpu_model(gpu: Arc<Gpu>) -> mor_engine::Result<GpuModel> {
    let precision = WeightPrecision::F32;
    block_on(GpuModel::random(gpu, config(), 5, precision))
}

fn greedy(context: &mut Context, prompt: &[u32]) -> Vec<u32> {
    let mut sampler = context
        .sampler(SamplingOptions::default())
        .expect("in range");
    block_on(context.set_context(prompt)).expect("fits");
    for _ in 0..4 {
        let choice = block_on(context.choose(&mut sampler)).expect("a token");
        block_on(context.push(choice.id)).expect("fits");
    }
    context.ids().to_vec()
}

/// A GPU whose memory is the process's.
fn software_gpu() -> Option<Arc<Gpu>> {
    let gpu = block_on(Gpu::open()).unwrap_or_else(|error| panic!("{error}"));
    if !gpu.description().software {
        println!("{} has memory of its own, which stays", gpu.description());
        return None;
    }
    Some(gpu)
}

#[test]
fn a_full_gpu_says_so_and_when_there_is_room_again_it_works() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = software_gpu() else { return };
    let error = without_memory(|| gpu_model(Arc::clone(&gpu)).map(drop));
    let error = error.expect_err("there is no room");
    assert!(
        matches!(error, EngineError::GpuOutOfMemory { .. }),
        "{error:?}"
    );
    assert!(error.is_of_device());
    let text = error.to_string();
    assert!(
        text.contains("the model's weights") && text.contains("the CPU"),
        "{text}"
    );

    let gpu = block_on(Gpu::open()).expect("opens again");
    let other = Arc::new(gpu_model(gpu).expect("there is room"));
    let other = block_on(GpuDecoder::new(other, DecodeOptions::default())).expect("a decoder");
    let model = Model::random(config(), 5, LoadOptions::default()).expect("a model");
    let here = Decoder::new(Arc::new(model), DecodeOptions::default()).expect("a decoder");
    let prompt = [5, 80, 300, 21];
    assert_eq!(
        greedy(&mut other.into(), &prompt),
        greedy(&mut here.into(), &prompt)
    );
}

/// As when a person asks for a depth whose caches have no room: what was there before goes on.
#[test]
fn what_has_no_room_harms_nothing_else() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = software_gpu() else { return };
    let mut config = config();
    config.num_hidden_layers = 6;
    // 38 MB of caches a step, and as much again without a step.
    config.max_position_embeddings = 2_048;
    let model = GpuModel::random(gpu, config, 5, WeightPrecision::F32);
    let model = Arc::new(block_on(model).expect("there is room"));
    let at = |steps| DecodeOptions {
        depth: Depth::Forced(steps),
        ..DecodeOptions::default()
    };
    let decoder = block_on(GpuDecoder::new(Arc::clone(&model), at(1))).expect("there is room");
    let mut context = Context::from(decoder);
    let prompt = [5, 80, 300, 21];
    let before = greedy(&mut context, &prompt);
    let deeper = || block_on(GpuDecoder::new(Arc::clone(&model), at(4))).map(drop);
    let error = without_memory(deeper).expect_err("there is no room");
    let text = error.to_string();
    assert!(
        matches!(error, EngineError::GpuOutOfMemory { .. }) && text.contains("caches"),
        "{error:?}"
    );
    context.reset();
    assert_eq!(greedy(&mut context, &prompt), before);
    deeper().expect("there is room again");
}
