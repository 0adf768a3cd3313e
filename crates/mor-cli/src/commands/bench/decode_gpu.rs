//! `mor bench decode --device gpu`: what a token asks of a GPU.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use mor_config::{ModelConfig, Preset, WEIGHTS_FILE, Weights};
use mor_engine::bench::BenchOptions;
use mor_engine::gpu::{Gpu, GpuModel, bench};
use pollster::block_on;
use serde::Serialize;

use super::decode::Args;
use crate::commands::device::trust;

#[derive(Serialize)]
struct Json {
    model: String,
    adapter: String,
    driver: String,
    /// Whether the adapter is the processor.
    software: bool,
    /// Which kernels ran.
    variant: &'static str,
    /// Mean steps per layer.
    depth: f64,
    prompt_tokens: usize,
    new_tokens: usize,
    /// Median of the runs.
    tokens_per_second: f64,
    prefill_tokens_per_second: f64,
    /// Steps of blocks that a token takes, of those that do not recur too.
    block_steps_per_token: f64,
    /// Kernels launched for a token.
    launches_per_token: f64,
    submits_per_token: f64,
    readbacks_per_token: f64,
    /// Bytes that launches ask memory for.
    bytes_per_token: f64,
    /// Bytes of weights, and of keys and values, that a token needs.
    needed_bytes_per_token: f64,
    weight_bytes: u64,
    /// Seconds until the device was open, its weights uploaded, and the context allocated with its kernels compiled.
    device_seconds: f64,
    upload_seconds: f64,
    setup_seconds: f64,
}

/// Measures and prints.
pub(super) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let gpu = block_on(Gpu::open())?;
    let device_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let precision = args.execution.load_options().precision;
    let device = Arc::clone(&gpu);
    let upload_seconds;
    let (name, model) = match (&args.subject.model, &args.subject.preset) {
        (Some(folder), _) => {
            let config = ModelConfig::from_dir(folder)?;
            let weights = Weights::open(&folder.join(WEIGHTS_FILE))?;
            let model = GpuModel::from_parts(device, config, &weights, precision);
            let model = Arc::new(block_on(model)?);
            upload_seconds = start.elapsed().as_secs_f64();
            trust(folder, &gpu, &model)?;
            (folder.display().to_string(), model)
        }
        (None, Some(preset)) => {
            let config = preset.parse::<Preset>()?.config();
            let model = GpuModel::random(device, config, 1, precision);
            let model = Arc::new(block_on(model)?);
            upload_seconds = start.elapsed().as_secs_f64();
            (preset.clone(), model)
        }
        (None, None) => anyhow::bail!("give --model DIR or --preset NAME"),
    };
    let options = BenchOptions {
        decode: args.execution.decode_options(),
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        runs: args.runs,
    };
    let report = block_on(bench::decode(&model, options))?;
    let per_token = |count: u64| count as f64 / report.tokens as f64;
    let description = gpu.description();
    let json = Json {
        model: name,
        adapter: description.to_string(),
        driver: description.driver.clone(),
        software: description.software,
        variant: gpu.variant().name(),
        depth: report.depth,
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        tokens_per_second: report.median(|run| run.tokens_per_second),
        prefill_tokens_per_second: report.median(|run| run.prefill_tokens_per_second),
        block_steps_per_token: per_token(report.block_steps),
        launches_per_token: per_token(report.counters.launches),
        submits_per_token: per_token(report.counters.submits),
        readbacks_per_token: per_token(report.counters.readbacks),
        bytes_per_token: per_token(report.counters.bytes_read),
        needed_bytes_per_token: per_token(report.needed_bytes),
        weight_bytes: model.weight_bytes(),
        device_seconds,
        upload_seconds,
        setup_seconds: report.setup_seconds,
    };
    print(&json, args)
}

fn print(json: &Json, args: &Args) -> Result<()> {
    let mut out = crate::output::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(json)?)?;
        return Ok(());
    }
    let mut row = |label: &str, value: String| writeln!(out, "{label:<16} {value}");
    row(
        "model",
        format!("{}, {:.1} steps per layer", json.model, json.depth),
    )?;
    row(
        "runs on",
        format!("{}, {} kernels", json.adapter, json.variant),
    )?;
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
        "launches",
        format!(
            "{:.1} per token, of {:.1} block steps",
            json.launches_per_token, json.block_steps_per_token
        ),
    )?;
    row(
        "submits",
        format!("{:.2} per token", json.submits_per_token),
    )?;
    row(
        "read-backs",
        format!("{:.2} per token", json.readbacks_per_token),
    )?;
    row(
        "bytes per token",
        format!(
            "{:.1} MB, where weights and cache are {:.1} MB",
            json.bytes_per_token / 1e6,
            json.needed_bytes_per_token / 1e6
        ),
    )?;
    row(
        "started in",
        format!(
            "{:.2} s: device {:.2}, weights {:.2}, memory and kernels {:.2}",
            json.device_seconds + json.upload_seconds + json.setup_seconds,
            json.device_seconds,
            json.upload_seconds,
            json.setup_seconds
        ),
    )?;
    Ok(())
}
