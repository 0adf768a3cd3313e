//! `mor frontier`: what each way of deciding depth costs and gives.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use mor_config::{Budget, Depth};
use mor_engine::{DecodeOptions, Decoder, Model};
use mor_files::PathCheck;
use mor_train::data::{Dataset, sampled_batches};
use mor_train::evaluate::Evaluator;
use mor_train::frontier::{Frontier, Row, measure};
use serde::Serialize;

use super::device::{DEVICE_VARIABLE, Device, DeviceParser};
use super::training_device::{self, no_advice};

/// Compare what decides depth in a recursive model with every simpler rule, on the same text.
///
/// Measures every fixed depth; the gates at eight budgets; chance, leaving by entropy, by how far a loop moved the state, by
/// position and by how common the token is, each at the same means; the gates' depths given to other tokens; and what
/// could be had if each token's loss at each depth were known. For each: bits per byte, mean depth, operations per token,
/// the difference to full depth with a 95 % interval, and the speed of decoding on the CPU where that is possible. Simple
/// rules are fitted on a third of the text that nothing is measured on.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor frontier --model models/mine --data valid.jsonl --json frontier.json"
)]
pub(crate) struct Args {
    /// Model folder: config.json, model.safetensors, tokenizer.json.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// A token file of `mor data prepare`, or what that reads.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Tokens to measure on.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    tokens: usize,
    /// Write everything that was measured to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to compute losses.
    #[arg(long, value_parser = DeviceParser, env = DEVICE_VARIABLE, default_value = "auto")]
    device: Device,
}

#[derive(Serialize)]
struct Json<'a> {
    model: String,
    data: String,
    version: &'static str,
    #[serde(flatten)]
    frontier: &'a Frontier,
}

/// Tokens whose decoding is timed for each depth.
const TIMED: usize = 400;

/// Measures and prints.
pub(crate) fn run(args: Args) -> Result<()> {
    let mut check = PathCheck::new()
        .reads_folder("--model", &args.model)
        .reads("--data", &args.data);
    if let Some(json) = &args.json {
        check = check.writes("--json", json);
    }
    check.check()?;
    let mut said = 0;
    let mut frontier = training_device::with(args.device, no_advice, |device| {
        let evaluator = Evaluator::load(&args.model, &args.data, None, &device.device)?;
        let mut frontier = measure(evaluator.model(), evaluator.data(), args.tokens, |share| {
            let tenths = (share * 10.0) as usize;
            if tenths > said {
                said = tenths;
                note!("{}0 %", said);
            }
        })?;
        time(&args, evaluator.data(), &mut frontier)?;
        Ok(frontier)
    })?;
    // By rule as they come, from shallow to deep.
    frontier.rows.sort_by_key(|row| order(row.rule));
    print(&frontier);
    if let Some(path) = &args.json {
        let json = Json {
            model: args.model.display().to_string(),
            data: args.data.display().to_string(),
            version: env!("CARGO_PKG_VERSION"),
            frontier: &frontier,
        };
        let mut text = serde_json::to_string_pretty(&json).context("cannot write the report")?;
        text.push('\n');
        mor_files::write(path, text.as_bytes())?;
    }
    Ok(())
}

fn order(rule: &str) -> usize {
    let all = [
        "fixed",
        "adaptive",
        "shuffled",
        "random",
        "position",
        "frequency",
        "displacement",
        "entropy",
        "oracle",
    ];
    all.iter()
        .position(|known| *known == rule)
        .unwrap_or(all.len())
}

/// How fast the text is decoded, token by token, by what can decode.
fn time(args: &Args, data: &Dataset, frontier: &mut Frontier) -> Result<()> {
    let model = Arc::new(Model::load(&args.model)?);
    let mut sequences = Vec::new();
    for rows in sampled_batches(data, TIMED, 4, TIMED) {
        for row in rows {
            let mut ids = Vec::new();
            data.read(row, &mut ids);
            sequences.push(ids);
        }
    }
    for row in &mut frontier.rows {
        let depth = match row.rule {
            "fixed" => Depth::Forced(row.budget as usize),
            "adaptive" => match Budget::try_from(row.budget) {
                Ok(budget) => Depth::Budget(budget),
                Err(_) => continue,
            },
            _ => continue,
        };
        let options = DecodeOptions {
            depth,
            ..DecodeOptions::default()
        };
        let mut decoder = Decoder::new(Arc::clone(&model), options)?;
        let mut tokens = 0;
        let started = Instant::now();
        for ids in &sequences {
            decoder.reset();
            for id in ids.iter().take(decoder.capacity()) {
                decoder.push(*id)?;
                tokens += 1;
            }
        }
        row.tokens_per_second = Some(f64::from(tokens) / started.elapsed().as_secs_f64().max(1e-9));
    }
    Ok(())
}

fn print(frontier: &Frontier) {
    say!(
        "{:14} {:>6} {:>8} {:>8} {:>20} {:>12} {:>9}",
        "rule",
        "depth",
        "bpb",
        "delta",
        "95 %",
        "MFLOP/token",
        "tokens/s"
    );
    for Row {
        rule,
        mean_depth,
        bits_per_byte,
        delta,
        ci95: [low, high],
        mflop_per_token,
        tokens_per_second,
        ..
    } in &frontier.rows
    {
        let speed = tokens_per_second.map_or("-".to_owned(), |speed| format!("{speed:.0}"));
        let interval = format!("{low:+.4} to {high:+.4}");
        say!(
            "{rule:14} {mean_depth:6.2} {bits_per_byte:8.4} {delta:+8.4} {interval:>20} {mflop_per_token:12.1} {speed:>9}"
        );
    }
    if !frontier.depths.is_empty() {
        let depths = frontier
            .depths
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        let depths: Vec<String> = depths
            .map(|(depth, count)| format!("{depth} × {count}"))
            .collect();
        say!("loops at the configured budget: {}", depths.join(", "));
    }
    say!(
        "{} tokens of {} sequences",
        frontier.tokens,
        frontier.sequences
    );
}
