//! What a training step asks of a GPU: kernels, submits of the queue, and read-backs, which the host waits for. That
//! decides the speed of small models there, whichever GPU it is.
//!
//! Alone in its file: a process has one logger, and launches of all its threads are counted.
#![cfg(feature = "gpu")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{CONVERSATIONAL, run_on};
use mor_model::gpu::count_launches;
use mor_train::{Device, DeviceChoice, open_device};

/// The most launches, submits and read-backs of a step of each recipe: a twentieth more than there were when this was
/// written, so that no parameter becomes a copy unnoticed, and not one read-back more.
const MOST: [(&str, [usize; 3]); 3] = [
    ("adamw", [596, 24, 1]),
    ("muon", [744, 27, 1]),
    // Of each of two batches a router's decisions and the losses of positions.
    ("real", [1240, 50, 5]),
];

static SUBMITS: AtomicUsize = AtomicUsize::new(0);
static READS: AtomicUsize = AtomicUsize::new(0);
/// Whether buffers are being mapped: all that are between two submits are read at once.
static READING: AtomicBool = AtomicBool::new(false);

struct Counter;

impl log::Log for Counter {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let says = |start: &str| record.args().to_string().starts_with(start);
        match record.target() {
            "wgpu_core::device::queue" if says("Queue::submit returned") => {
                SUBMITS.fetch_add(1, Ordering::Relaxed);
                READING.store(false, Ordering::Relaxed);
            }
            "wgpu_core::device::global" if says("Buffer::map_async") => {
                let more = READING.swap(true, Ordering::Relaxed);
                READS.fetch_add(usize::from(!more), Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn flush(&self) {}
}

/// Launches, submits and read-backs of `work`, all of it done.
fn count(device: &Device, work: impl FnOnce()) -> [usize; 3] {
    let so_far = || [&SUBMITS, &READS].map(|count| count.load(Ordering::Relaxed));
    device.sync().expect("the GPU works");
    let before = so_far();
    let ((), launches) = count_launches(work);
    device.sync().expect("the GPU works");
    let after = so_far();
    [launches, after[0] - before[0], after[1] - before[1]]
}

/// What a step of a recipe asks for, given its text for a number of steps.
fn of_a_step(device: &Device, recipe: impl Fn(usize) -> String) -> [usize; 3] {
    let of_a_run = |steps: usize| {
        let dir = tempfile::tempdir().expect("a folder");
        let run = dir.path().join("run");
        count(device, || {
            run_on(device, &recipe(steps), &run, false, None);
        })
    };
    // What begins and ends a run is the same.
    let (more, fewer) = (of_a_run(4), of_a_run(2));
    [0, 1, 2].map(|at| (more[at] - fewer[at]).div_ceil(2))
}

const RECIPE: &str = r#"
[model]
preset = "technical-10m"
vocab_size = 512
hidden_size = 48
num_hidden_layers = 3
num_attention_heads = 4
intermediate_size = 96
max_position_embeddings = 96

[train]
batch_tokens = 256
lr = 4e-3
validate_every = 100
steps = STEPS

[[train.depth]]
from = 0.0
weights = [0.0, 0.0, 1.0]

[train.optimizer]
kind = "KIND"
"#;

#[test]
fn a_step_asks_for_little() {
    log::set_logger(&Counter).expect("no other logger");
    log::set_max_level(log::LevelFilter::Trace);
    let gpu = open_device(DeviceChoice::Gpu).unwrap_or_else(|error| panic!("{error}"));

    for (name, most) in MOST {
        let found = of_a_step(&gpu.device, |steps| match name {
            "adamw" | "muon" => RECIPE
                .replace("STEPS", &steps.to_string())
                .replace("KIND", name),
            pooling => CONVERSATIONAL
                .replace("POOLING", pooling)
                .replace("steps = 6", &format!("steps = {steps}\naccumulate = 2"))
                .replace("batch_tokens = 768", "batch_tokens = 128")
                .replace("validate_every = 6", "validate_every = 100"),
        });
        println!("{name}: {found:?} launches, submits and read-backs of a step");
        assert!(found[0] > 100, "{found:?} are not all");
        let less = found.iter().zip(most).all(|(found, most)| *found <= most);
        assert!(less, "{name}: {found:?}, more than {most:?}");
    }
}
