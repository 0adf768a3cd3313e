//! `mor selftest`: everything that a GPU computes, against the CPU, and how fast.

mod child;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use mor_files::{OutputStream, PathCheck, is_standard_output};
use mor_selftest::{Options, Part, Report, run_part};

use crate::commands::MODEL_FILES;

/// Where the shipped model is, beside the program or in the folder that one is in.
const SHIPPED: &str = "models/technical-10m";

/// Check this machine's GPU: compare everything that is computed there with the CPU, and measure how fast it is.
///
/// Prints a page of text, and with --json writes all figures to a file for reports of problems; docs/selftest.md
/// explains both. Each part runs in a process of its own, so that whatever goes wrong in it, a crash of the
/// driver included, is named and stops no other. Exit code 1 says that a part failed.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  mor selftest --device gpu --minutes 8 --json selftest.json")]
pub(crate) struct Args {
    /// What is tested; it is compared with the CPU.
    #[arg(long, value_enum, default_value_t = Tested::Gpu)]
    device: Tested,
    /// About how long to take: more repetitions and larger models with more time.
    #[arg(long, value_name = "N", default_value_t = 8.0, value_parser = minutes)]
    minutes: f64,
    /// Where to write the JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Folder of a model whose answers are compared [default: the shipped one, where it is beside the program].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Run this part only; may be repeated: adapter, operations, goldens, answers, speed, training or losses.
    #[arg(long = "part", value_name = "NAME", value_parser = part)]
    parts: Vec<Part>,
    /// Run the one part in this process and print what it found.
    #[arg(long, hide = true)]
    in_this_process: bool,
}

/// What can be tested.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Tested {
    /// The graphics processor that --device gpu takes everywhere.
    Gpu,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: Option<f64> = text.parse().ok();
    let minutes = minutes.filter(|minutes| (0.01..=1440.0).contains(minutes));
    minutes.ok_or_else(|| format!("`{text}` is no number of minutes from 0.01 to 1440"))
}

fn part(name: &str) -> Result<Part, String> {
    Part::named(name).ok_or_else(|| {
        let names = Part::ALL.map(Part::name).join(", ");
        format!("`{name}` is no part; there are {names}")
    })
}

/// Runs the parts, prints the page and writes the JSON.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Tested::Gpu = args.device;
    let options = Options {
        model: args.model.clone().or_else(shipped_model),
        ..Options::default()
    };
    if let (true, [part]) = (args.in_this_process, args.parts.as_slice()) {
        let found = run_part(*part, part.seconds(args.minutes), &options);
        return crate::output::print(&found.to_json());
    }
    let mut check = PathCheck::new();
    if let Some(model) = &args.model {
        check = check.reads_files("--model", model, MODEL_FILES);
    }
    if let Some(json) = &args.json {
        check = check.writes("--json", json);
    }
    check.check()?;
    // Before the work, so that a place that cannot be written costs no time.
    let output = args.json.as_deref().map(OutputStream::create).transpose()?;
    let json_is_printed = args.json.as_deref().is_some_and(is_standard_output);
    // Whoever closes the page early still gets the JSON and the exit code.
    let show = |text: &str| {
        let _ = match json_is_printed {
            true => write!(crate::output::stderr(), "{text}"),
            false => {
                let mut out = crate::output::stdout();
                write!(out, "{text}").and_then(|()| out.flush())
            }
        };
    };

    let mut report = Report::new(args.minutes);
    let started = Instant::now();
    show(&report.header());
    for part in Part::ALL {
        if !args.parts.is_empty() && !args.parts.contains(&part) {
            continue;
        }
        let found = child::run(part, args.minutes, options.model.as_deref());
        show(&found.to_page());
        report.add(found);
    }
    report.seconds = started.elapsed().as_secs_f64();
    show(&report.verdict());
    if let Some(mut output) = output {
        output.write_all(report.to_json().as_bytes())?;
        output.commit()?;
    }
    let failed = report.failed();
    if !failed.is_empty() {
        let (count, of, names) = (failed.len(), report.parts.len(), failed.join(", "));
        bail!("{count} of {of} parts failed: {names}");
    }
    Ok(())
}

/// The model that comes with the program, if it is there.
fn shipped_model() -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let around = beside.and_then(Path::parent);
    let places = [beside, around, Some(Path::new("."))];
    let mut folders = places.into_iter().flatten().map(|at| at.join(SHIPPED));
    folders.find(|folder| folder.join(mor_config::CONFIG_FILE).is_file())
}
