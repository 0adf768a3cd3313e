//! The engine in the browser against the native one: the same model on one thread each, in turns, so that a
//! change in the machine's speed meets both.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::phases::Phases;
use crate::{tools, web};

/// What `cargo xtask bench` accepts.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Model folder; its name is the folder's.
    #[arg(long, value_name = "DIR", default_value = "models/technical-10m")]
    model: PathBuf,
    /// Depths to measure.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2")]
    depths: Vec<usize>,
    /// Turns of each engine; the table shows medians.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
}

/// `cargo xtask bench`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut phases = Phases::default();
    web::build(&mut phases)?;
    let features = ["--no-default-features", "--features", "model"];
    let build = ["build", "--quiet", "--release", "--package", "mor-cli"];
    phases.run("native engine", || {
        tools::run(tools::cargo().args(build).args(features))
    })?;
    let native = tools::built_program("release", "mor")?;
    let model = tools::root().join(&args.model);

    println!("| model | depth | WebAssembly tokens/s | native tokens/s | ratio |");
    println!("|---|---|---|---|---|");
    for depth in &args.depths {
        let (mut wasm, mut one_thread) = (Vec::new(), Vec::new());
        for _ in 0..args.turns {
            one_thread.push(speed(native_command(&native, &model, *depth))?);
            wasm.push(speed(browser_command(&model, *depth))?);
        }
        let (wasm, one_thread) = (median(wasm), median(one_thread));
        let name = model.file_name().unwrap_or_default().to_string_lossy();
        let ratio = wasm / one_thread;
        println!("| {name} | {depth} | {wasm:.0} | {one_thread:.0} | {ratio:.2} |");
    }
    Ok(())
}

fn native_command(program: &Path, model: &Path, depth: usize) -> Command {
    let mut command = Command::new(program);
    command.args([
        "bench",
        "decode",
        "--json",
        "--threads",
        "1",
        "--dtype",
        "f32",
    ]);
    measured(command, model, depth)
}

fn browser_command(model: &Path, depth: usize) -> Command {
    let mut command = tools::npm();
    command.args(["run", "--silent", "bench", "--"]);
    measured(command, model, depth)
}

/// What both measure: 100 tokens after 20; they report the median of five runs as JSON.
fn measured(mut command: Command, model: &Path, depth: usize) -> Command {
    let lengths = ["--prompt-tokens", "20", "--new-tokens", "100"];
    let depth = depth.to_string();
    command.args(lengths).args(["--depth", &depth, "--model"]);
    command.arg(model);
    command
}

/// Tokens per second as a benchmark reports them.
fn speed(mut command: Command) -> Result<f64> {
    let report: Value = serde_json::from_str(&tools::output(&mut command)?)
        .context("the benchmark printed no JSON")?;
    let speed = report["tokens_per_second"].as_f64().unwrap_or_default();
    ensure!(speed > 0.0, "the benchmark reported no speed: {report}");
    Ok(speed)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_ignores_outliers() {
        assert_eq!(super::median(vec![9.0, 1.0, 2.0]), 2.0);
    }
}
