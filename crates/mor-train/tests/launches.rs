//! How many kernels a training step launches on a GPU: what decides the speed of small models there, whichever GPU it is.
//!
//! Alone in its file: what Burn logs, here every launch, is settled once in a process.
#![cfg(feature = "gpu")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use common::run_on;
use mor_train::{DeviceChoice, open_device};

/// Most launches of a step: for each application of a block, forward and backward, for each parameter, and beside them.
const MOST: [usize; 3] = [70, 4, 150];

static LAUNCHES: AtomicUsize = AtomicUsize::new(0);

struct Counter;

impl log::Log for Counter {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "cubecl::profiling"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LAUNCHES.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Launches so far, when no more are reported: Burn does that in a thread of its own.
fn launches() -> usize {
    let mut before = LAUNCHES.load(Ordering::Relaxed);
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = LAUNCHES.load(Ordering::Relaxed);
        if now == before {
            return now;
        }
        before = now;
    }
}

const LAYERS: usize = 3;
const DEPTH: usize = 2;

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
fn a_step_launches_few_kernels() {
    log::set_logger(&Counter).expect("no other logger");
    log::set_max_level(log::LevelFilter::Trace);
    let config = "[profiling]\nlogger = { level = 'minimal', log = 'info' }";
    CubeClRuntimeConfig::set(toml::from_str(config).expect("a configuration"));
    let gpu = open_device(DeviceChoice::Gpu).unwrap_or_else(|error| panic!("{error}"));

    for kind in ["adamw", "muon"] {
        let of_a_run = |steps: usize| {
            let dir = tempfile::tempdir().expect("a folder");
            let text = RECIPE.replace("STEPS", &steps.to_string());
            let text = text.replace("KIND", kind);
            let before = launches();
            run_on(&gpu.device, &text, &dir.path().join("run"), false, None);
            launches() - before
        };
        // What begins and ends a run is the same.
        let found = of_a_run(3) - of_a_run(2);
        let parameters = common::recipe(&RECIPE.replace("STEPS", "1").replace("KIND", kind))
            .model
            .tensors()
            .len();
        let [of_a_block, of_a_parameter, others] = MOST;
        let most = LAYERS * DEPTH * of_a_block + parameters * of_a_parameter + others;
        println!(
            "{kind}: {found} launches for {} block steps and {parameters} parameters",
            LAYERS * DEPTH
        );
        assert!(found > 100, "{found} launches are not all");
        assert!(found <= most, "{found} launches, more than {most}");
    }
}
