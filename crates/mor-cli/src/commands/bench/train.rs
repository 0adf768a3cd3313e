//! `mor bench train`: how fast a model learns, and where the time goes.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use mor_config::{Depth, Preset};
use mor_engine::bench::Memory;
use mor_kernels::{start_profile, stop_profile};
use mor_train::ChosenDevice;
use mor_train::recipe::{AdamWSettings, Matmul, OptimizerSettings};
use mor_train::steps::{MadeUp, StepSettings, Steps};
use serde::Serialize;

use crate::commands::Usage;
use crate::commands::device::{DEVICE_VARIABLE, Device, DeviceParser};
use crate::commands::training_device::{self, no_advice};

/// Tokens per second of whole training steps: forward, backward, clipping and AdamW.
///
/// The model has random weights and reads random tokens, with the dropout of its preset. The table says where the
/// time goes on the CPU: the kernels that have to wait for each other add up to a step, but for what lies between them.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor bench train --preset technical-card --batch 16 --seq 127 --depth 4 --json"
)]
pub(crate) struct Args {
    /// Configuration to train: technical-card, technical-10m or conversational-198m.
    #[arg(long, value_name = "NAME")]
    preset: String,
    /// Sequences of a batch.
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Tokens of a sequence.
    #[arg(long, value_name = "N", default_value_t = 127)]
    seq: usize,
    /// Steps in every layer [default: what the preset says].
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Steps to time, after one that is not; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    steps: usize,
    /// Where to train. With auto, on a GPU if the machine has one.
    #[arg(long, value_parser = DeviceParser, env = DEVICE_VARIABLE, default_value = "auto")]
    device: Device,
    /// Precision of matrix products: f32, bf16 or f16.
    #[arg(long, value_name = "NAME", default_value = "f32", value_parser = parse_matmul)]
    matmul: Matmul,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn parse_matmul(name: &str) -> Result<Matmul, String> {
    match name {
        "f32" => Ok(Matmul::F32),
        "bf16" => Ok(Matmul::Bf16),
        "f16" => Ok(Matmul::F16),
        _ => Err(format!(
            "`{name}` is no precision; expected f32, bf16 or f16"
        )),
    }
}

#[derive(Serialize)]
struct Json {
    program: String,
    preset: String,
    parameters: usize,
    device: String,
    batch: usize,
    seq: usize,
    depth: Option<usize>,
    matmul: Matmul,
    /// Median of the steps.
    tokens_per_second: f64,
    /// The most memory that the process took; null where the system does not tell.
    peak_bytes: Option<usize>,
    /// Seconds of a step by kernel, on average.
    seconds_by_kernel: Vec<(&'static str, f64)>,
    /// Seconds of a step, on average.
    seconds: f64,
}

/// Measures and prints.
pub(super) fn run(args: &Args) -> Result<()> {
    training_device::with(args.device, no_advice, |chosen| measure(args, chosen))
}

fn measure(args: &Args, chosen: &ChosenDevice) -> Result<()> {
    let config = args.preset.parse::<Preset>()?.config();
    if chosen.is_gpu && args.matmul != Matmul::F32 {
        let wrong = "on a GPU only f32 products are measured; leave --matmul out";
        return Err(Usage(wrong.to_owned()).into());
    }
    let adamw = AdamWSettings {
        betas: [0.9, 0.99],
        epsilon: 1e-6,
        weight_decay: 0.01,
    };
    let settings = StepSettings {
        batch: args.batch,
        seq: args.seq,
        depth: args.depth.map_or(Depth::Configured, Depth::Forced),
        matmul: args.matmul,
        optimizer: OptimizerSettings::AdamW(adamw),
        learning_rate: 5e-4,
        tokens: MadeUp::Noise,
    };
    let mut training = Steps::new(&config, chosen, settings)?;
    let mut seconds = Vec::new();
    for step in 0..=args.steps.max(1) {
        if step == 1 {
            // The first pays for fresh memory.
            start_profile();
        }
        let started = Instant::now();
        (training, _) = training.step()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let kernels = stop_profile();
    let mut timed = seconds.split_off(1);
    let mean = timed.iter().sum::<f64>() / timed.len() as f64;
    timed.sort_by(f64::total_cmp);
    let steps = timed.len() as f64;
    let json = Json {
        program: format!("mor {}", env!("CARGO_PKG_VERSION")),
        preset: args.preset.clone(),
        parameters: config.parameter_count().total,
        device: chosen.description.clone(),
        batch: args.batch,
        seq: args.seq,
        depth: args.depth,
        matmul: args.matmul,
        tokens_per_second: (args.batch * args.seq) as f64 / timed[timed.len() / 2],
        peak_bytes: Memory::now().map(|memory| memory.peak),
        seconds_by_kernel: kernels
            .iter()
            .map(|(kernel, total)| (kernel.label(), total / steps))
            .collect(),
        seconds: mean,
    };
    let mut stdout = crate::output::stdout();
    if args.json {
        serde_json::to_writer(&mut stdout, &json)?;
        writeln!(stdout)?;
        return Ok(());
    }
    writeln!(stdout, "{}", json.device)?;
    writeln!(
        stdout,
        "{:.0} tokens/s, {:.2} s a step{}",
        json.tokens_per_second,
        json.seconds,
        json.peak_bytes.map_or(String::new(), |bytes| {
            format!(", at most {:.0} MB of memory", bytes as f64 * 1e-6)
        })
    )?;
    if chosen.is_gpu {
        // Its kernels have no clock here.
        return Ok(());
    }
    let inside: f64 = json
        .seconds_by_kernel
        .iter()
        .map(|(_, seconds)| seconds)
        .sum();
    let rest = ("everything else", (json.seconds - inside).max(0.0));
    for (name, seconds) in json.seconds_by_kernel.iter().chain([&rest]) {
        let share = 100.0 * seconds / json.seconds;
        writeln!(stdout, "{name:24} {:8.1} ms {share:5.1} %", seconds * 1e3)?;
    }
    Ok(())
}
