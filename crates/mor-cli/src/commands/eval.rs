//! `mor eval`: loss, perplexity and bits per byte of a model on a file.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use mor_config::Budget;
use mor_report::metrics::Summary;
use mor_train::ChosenDevice;
use mor_train::evaluate::{EvaluateDepth, Evaluator, Measurement, Report};
use serde::Serialize;

use super::device::{DEVICE_VARIABLE, Device, DeviceParser};
use super::training_device::{self, no_advice};
use crate::output;

/// Units of the progress bar.
const BAR: u64 = 1000;

/// Measure a model on a file: loss, perplexity, bits per byte, depth and work.
///
/// Every token of each conversation after the first is scored. Bits per byte divide the summed loss by
/// the UTF-8 bytes of the message contents, so they compare models with different tokenizers. Work is counted in
/// floating-point operations of the products and attention of the steps that were taken, pads left out.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor eval --model models/technical-10m --data valid.jsonl --json"
)]
pub(crate) struct Args {
    /// Model folder: config.json, model.safetensors, tokenizer.json.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// A token file of `mor data prepare`, or what that reads: also a folder.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Steps in every layer; or what the routers decide (adaptive); or for each layer and sequence one of the depths
    /// that routers choose from, at random [default: what the model's configuration says].
    #[arg(long, value_name = "N|adaptive|random", value_parser = parse_depth, conflicts_with = "budget")]
    depth: Option<EvaluateDepth>,
    /// Mean number of loops that the gates of a recursive model are asked for, such as 1.6.
    #[arg(long, value_name = "X")]
    budget: Option<Budget>,
    /// Seed of random depths.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Only the first N conversations.
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    limit: Option<usize>,
    /// Where to compute. With auto, on a GPU if the machine has one.
    #[arg(long, value_parser = DeviceParser, env = DEVICE_VARIABLE, default_value = "auto")]
    device: Device,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn parse_depth(text: &str) -> Result<EvaluateDepth, String> {
    match text {
        "adaptive" => Ok(EvaluateDepth::Adaptive),
        "random" => Ok(EvaluateDepth::Random(0)),
        number => number.parse().map(EvaluateDepth::Forced).map_err(|_| {
            format!("`{number}` is no depth; expected a number of steps, adaptive or random")
        }),
    }
}

fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err("expected a number of conversations, at least 1".to_owned()),
    }
}

#[derive(Serialize)]
struct Json {
    model: String,
    data: String,
    depth: String,
    #[serde(flatten)]
    total: Figures,
    sources: BTreeMap<String, Figures>,
    /// Rows that are malformed or have no answer.
    rows_left_out: u64,
    /// Conversations that are longer than the context, and so are read in parts.
    rows_in_parts: u64,
    /// Where it was measured.
    device: String,
    seconds: f64,
}

/// What was measured, in total or of one source.
#[derive(Serialize)]
struct Figures {
    #[serde(flatten)]
    summary: Summary,
    mean_depth: f64,
    flops_per_token: f64,
    /// How often each depth was taken, over layers and conversations, or positions.
    depths: BTreeMap<usize, u64>,
}

impl Figures {
    fn of(measured: &Measurement) -> Self {
        Self {
            summary: measured.summary(),
            mean_depth: measured.mean_depth(),
            flops_per_token: measured.flops_per_token(),
            depths: taken(measured).collect(),
        }
    }
}

/// Measures and prints.
pub(crate) fn run(args: Args) -> Result<()> {
    let budget = args.budget.map(EvaluateDepth::Budget);
    let depth = match args.depth.or(budget).unwrap_or_default() {
        EvaluateDepth::Random(_) => EvaluateDepth::Random(args.seed),
        depth => depth,
    };
    super::data::files(std::slice::from_ref(&args.data), None)?;
    training_device::with(args.device, no_advice, |device| {
        #[cfg(feature = "gpu")]
        if device.is_gpu
            && let Err(error) = super::probe::trust_burn(&args.model, device)
        {
            if args.device == Device::Gpu {
                return Err(error);
            }
            note!("{error:#}; going on, on the CPU");
            return training_device::with(Device::Cpu, no_advice, |device| {
                measure(&args, depth, device)
            });
        }
        measure(&args, depth, device)
    })
}

fn measure(args: &Args, depth: EvaluateDepth, device: &ChosenDevice) -> Result<()> {
    let evaluator = Evaluator::load(&args.model, &args.data, args.limit, &device.device)?;
    let bar = if args.json || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(BAR)
    };
    bar.set_style(ProgressStyle::with_template(
        "{bar:24} {percent:>3} %  {eta} left",
    )?);
    let started = std::time::Instant::now();
    let report = evaluator.run(depth, |share| bar.set_position((share * BAR as f64) as u64))?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let left_out = evaluator.data().left_out();
    let in_parts = evaluator.data().fit().split;
    if args.json {
        let sources = report.sources.iter();
        let json = Json {
            model: args.model.display().to_string(),
            data: args.data.display().to_string(),
            depth: match depth {
                EvaluateDepth::Configured => "configured".to_owned(),
                EvaluateDepth::Adaptive => "adaptive".to_owned(),
                EvaluateDepth::Forced(depth) => depth.to_string(),
                EvaluateDepth::Budget(budget) => format!("budget {budget}"),
                EvaluateDepth::Random(seed) => format!("random, seed {seed}"),
            },
            total: Figures::of(&report.total),
            sources: sources
                .map(|(name, measured)| (name.clone(), Figures::of(measured)))
                .collect(),
            rows_left_out: left_out,
            rows_in_parts: in_parts,
            device: device.description.clone(),
            seconds,
        };
        let text = serde_json::to_string_pretty(&json).context("cannot write the report")?;
        output::print(&text)?;
    } else {
        print(&report, left_out, seconds);
        if in_parts > 0 {
            note!(
                "{in_parts} of the conversations are longer than the context of {} tokens and are read in parts, each \
                 without what precedes it",
                evaluator.data().context()
            );
        }
        note!("measured on {}", device.description);
    }
    Ok(())
}

fn taken(measured: &Measurement) -> impl Iterator<Item = (usize, u64)> + '_ {
    let counts = measured.depths.iter().copied().enumerate();
    counts.filter(|&(_, count)| count > 0)
}

fn print(report: &Report, left_out: u64, seconds: f64) {
    say!(
        "{:24} {:>8} {:>10} {:>8} {:>10} {:>8} {:>6} {:>12}",
        "source",
        "loss",
        "perplexity",
        "bpb",
        "tokens",
        "rows",
        "depth",
        "MFLOP/token"
    );
    let row = |name: &str, measured: &Measurement| {
        let summary = measured.summary();
        say!(
            "{name:24} {:8.4} {:10.2} {:8.4} {:10} {:8} {:6.2} {:12.1}",
            summary.loss,
            summary.perplexity,
            summary.bits_per_byte,
            summary.tokens,
            summary.conversations,
            measured.mean_depth(),
            measured.flops_per_token() * 1e-6
        );
    };
    for (name, measured) in &report.sources {
        row(&output::name(name), measured);
    }
    row("all", &report.total);
    let depths: Vec<String> = taken(&report.total)
        .map(|(depth, count)| format!("{depth} × {count}"))
        .collect();
    say!("depth (steps × times): {}", depths.join(", "));
    say!(
        "{:.0} tokens/s",
        report.total.tokens as f64 / seconds.max(1e-9)
    );
    if left_out > 0 {
        note!("warning: {left_out} rows are malformed or have no answer and were left out");
    }
}
