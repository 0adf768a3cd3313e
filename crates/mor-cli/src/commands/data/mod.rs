//! `mor data`: turn raw files into training rows or tokens, and say what was left out and what a file holds.

mod folders;
mod info;
mod input;
mod prepare;
mod report;
mod sink;

use std::path::PathBuf;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

pub(crate) use folders::files;

/// Prepare training data, or see what a file holds.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Prepare(Box<prepare::Args>),
    Info(info::Args),
}

/// How many malformed rows are shown one by one.
const SHOWN_ERRORS: u64 = 5;

/// Runs `mor data`.
///
/// # Errors
/// When a file cannot be read or written, a row is malformed under `--strict`, no row is left, or a token
/// file is damaged.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Prepare(args) => prepare::run(&args),
        Command::Info(args) => info::run(&args),
    }
}

/// A bar over the bytes of all inputs; hidden when standard error is not a terminal.
fn progress(inputs: &[PathBuf]) -> ProgressBar {
    let total = inputs
        .iter()
        .filter_map(|path| path.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}
