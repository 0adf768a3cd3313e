//! `mor bench decode`: how fast a model writes.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use mor_config::Preset;
use mor_engine::Model;
use mor_engine::bench::{self, BenchOptions, BenchReport};
use serde::Serialize;

use crate::commands::device::Device;
use crate::commands::inference::{Execution, Subject};

/// Tokens per second, beside the memory bandwidth measured at the same moment.
///
/// Decoding reads every weight for every token, so memory bandwidth bounds it, unless a cache holds the
/// weights: the fraction can then exceed 1. A preset runs with random weights.
///
/// Measured is the CPU, also with --device auto. With --device gpu it also tells what a token asks of the GPU: kernels
/// launched, submits, read-backs, and bytes.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor bench decode --preset technical-card --threads 2 --depth 1 --json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) subject: Subject,
    #[command(flatten)]
    pub(super) execution: Execution,
    /// Tokens to read first.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) prompt_tokens: usize,
    /// Tokens to decode and measure.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(super) new_tokens: usize,
    /// Repetitions; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) runs: usize,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Serialize)]
struct Json {
    model: String,
    isa: &'static str,
    threads: usize,
    /// Mean steps per layer.
    depth: f64,
    prompt_tokens: usize,
    new_tokens: usize,
    /// Median of the runs.
    tokens_per_second: f64,
    tokens_per_second_runs: Vec<f64>,
    prefill_tokens_per_second: f64,
    /// Bytes of weights read per token.
    bytes_per_token: f64,
    weight_bytes: usize,
    /// Seconds until the model was ready; with a preset, making the weights up is most of it.
    load_seconds: f64,
    /// Bytes of memory that the process took while decoding, and at most; null where the system does not tell.
    resident_bytes: Option<usize>,
    peak_bytes: Option<usize>,
    /// Bytes per second that a sum over memory reaches with the same threads.
    read_bandwidth: f64,
    /// Median over the runs of bytes read per second over that bandwidth.
    bandwidth_fraction: f64,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.execution.device == Device::Gpu {
        #[cfg(feature = "gpu")]
        return super::decode_gpu::run(args);
        #[cfg(not(feature = "gpu"))]
        anyhow::bail!("this program was built without GPU support; build it with --features gpu");
    }
    let options = args.execution.load_options();
    let start = Instant::now();
    let (name, model) = match (&args.subject.model, &args.subject.preset) {
        (Some(folder), _) => (
            folder.display().to_string(),
            Model::load_with(folder, options)?,
        ),
        (None, Some(preset)) => {
            let config = preset.parse::<Preset>()?.config();
            (preset.clone(), Model::random(config, 1, options)?)
        }
        (None, None) => anyhow::bail!("give --model DIR or --preset NAME"),
    };
    let load_seconds = start.elapsed().as_secs_f64();
    let model = Arc::new(model);
    let options = BenchOptions {
        decode: args.execution.decode_options(),
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        runs: args.runs,
    };
    let report = bench::decode(&model, options)?;
    let json = summarise(args, name, &model, load_seconds, &report);
    let mut out = crate::output::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&json)?)?;
        return Ok(());
    }
    let mut row = |label: &str, value: String| writeln!(out, "{label:<16} {value}");
    row("model", json.name_with_depth())?;
    row("runs on", format!("{}, {} threads", json.isa, json.threads))?;
    row(
        "decode",
        format!(
            "{:.1} tokens/s (median of {})",
            json.tokens_per_second, args.runs
        ),
    )?;
    row(
        "prefill",
        format!("{:.0} tokens/s", json.prefill_tokens_per_second),
    )?;
    row(
        "bytes per token",
        format!("{:.1} MB", json.bytes_per_token / 1e6),
    )?;
    row(
        "read bandwidth",
        format!("{:.1} GB/s", json.read_bandwidth / 1e9),
    )?;
    row("fraction of it", format!("{:.2}", json.bandwidth_fraction))?;
    row("loaded in", format!("{:.2} s", json.load_seconds))?;
    if let (Some(resident), Some(peak)) = (json.resident_bytes, json.peak_bytes) {
        let megabytes = |bytes: usize| bytes as f64 / 1e6;
        row(
            "memory",
            format!(
                "{:.0} MB, at most {:.0} MB",
                megabytes(resident),
                megabytes(peak)
            ),
        )?;
    }
    Ok(())
}

impl Json {
    fn name_with_depth(&self) -> String {
        format!("{}, {:.1} steps per layer", self.model, self.depth)
    }
}

fn summarise(
    args: &Args,
    name: String,
    model: &Model,
    load_seconds: f64,
    report: &BenchReport,
) -> Json {
    let bytes = report.bytes_per_token;
    Json {
        model: name,
        isa: model.isa().name(),
        threads: report.threads,
        depth: report.depth,
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        tokens_per_second: report.median(|run| run.tokens_per_second),
        tokens_per_second_runs: report
            .runs
            .iter()
            .map(|run| run.tokens_per_second)
            .collect(),
        prefill_tokens_per_second: report.median(|run| run.prefill_tokens_per_second),
        bytes_per_token: bytes,
        weight_bytes: model.weight_bytes(),
        load_seconds,
        resident_bytes: report.memory.map(|memory| memory.resident),
        peak_bytes: report.memory.map(|memory| memory.peak),
        read_bandwidth: report.median(|run| run.read_bandwidth),
        bandwidth_fraction: report.median(|run| run.tokens_per_second * bytes / run.read_bandwidth),
    }
}
