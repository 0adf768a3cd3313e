//! `mor eval`: loss, perplexity and bits per byte of a model on a file.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use mor_config::Depth;
use mor_train::Device;
use mor_train::evaluate::{Evaluator, Report, Summary};
use serde::Serialize;

/// Units of the progress bar.
const BAR: u64 = 1000;

/// Measure a model on a file: loss, perplexity, bits per byte.
///
/// Every token of each conversation after <bos> is scored. Bits per byte divide the summed loss by
/// the UTF-8 bytes of the message contents, so they compare models with different tokenizers.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor eval --model models/technical-10m --data valid.jsonl --json"
)]
pub(crate) struct Args {
    /// Model folder: config.json, model.safetensors, tokenizer.json.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Chat JSON lines ({"messages":[…]}), or plain text (.txt).
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Steps in every layer, instead of what the model would choose.
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Only the first N conversations.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json {
    model: String,
    data: String,
    depth: Option<usize>,
    #[serde(flatten)]
    total: Summary,
    /// How often each depth was taken, over layers and conversations.
    depths: BTreeMap<usize, u64>,
    sources: BTreeMap<String, Summary>,
    malformed_lines: u64,
    seconds: f64,
}

/// Measures and prints.
pub(crate) fn run(args: Args) -> Result<()> {
    let depth = args.depth.map_or(Depth::Configured, Depth::Forced);
    let evaluator = Evaluator::load(&args.model, &args.data, args.limit, &Device::flex())?;
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
    let malformed = evaluator.data().malformed;
    if args.json {
        let json = Json {
            model: args.model.display().to_string(),
            data: args.data.display().to_string(),
            depth: args.depth,
            total: report.total.summary(),
            depths: taken(&report).collect(),
            sources: report
                .sources
                .iter()
                .map(|(name, measurement)| (name.clone(), measurement.summary()))
                .collect(),
            malformed_lines: malformed,
            seconds,
        };
        let text = serde_json::to_string_pretty(&json).context("cannot write the report")?;
        say!("{text}");
    } else {
        print(&report, malformed, seconds);
    }
    Ok(())
}

fn taken(report: &Report) -> impl Iterator<Item = (usize, u64)> + '_ {
    let counts = report.depths.iter().copied().enumerate();
    counts.filter(|&(_, count)| count > 0)
}

fn print(report: &Report, malformed: u64, seconds: f64) {
    let total = report.total.summary();
    say!(
        "{:24} {:>8} {:>10} {:>8} {:>10} {:>8}",
        "source",
        "loss",
        "perplexity",
        "bpb",
        "tokens",
        "rows"
    );
    let row = |name: &str, summary: Summary| {
        say!(
            "{name:24} {:8.4} {:10.2} {:8.4} {:10} {:8}",
            summary.loss,
            summary.perplexity,
            summary.bits_per_byte,
            summary.tokens,
            summary.conversations
        );
    };
    for (name, measurement) in &report.sources {
        row(name, measurement.summary());
    }
    row("all", total);
    let depths: Vec<String> = taken(report)
        .map(|(depth, count)| format!("{depth} × {count}"))
        .collect();
    say!("depth (steps × times): {}", depths.join(", "));
    say!("{:.0} tokens/s", total.tokens as f64 / seconds.max(1e-9));
    if malformed > 0 {
        note!("warning: {malformed} malformed lines were left out");
    }
}
