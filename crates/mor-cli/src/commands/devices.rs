//! `mor devices`: what can run models here.

use std::io::Write;

use anyhow::Result;
use mor_engine::gpu::{Gpu, adapters};
use mor_engine::{DecodeOptions, Isa};
use pollster::block_on;
use serde::Serialize;

/// List what can run models on this machine: the processor and the GPUs.
///
/// The GPU that --device gpu takes, and the kernels it would run, come from asking for it: exit code 1 says that there
/// is none, and what to install.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  mor devices")]
pub(crate) struct Args {
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json {
    /// Instruction set of the CPU's kernels.
    isa: &'static str,
    threads: usize,
    adapters: Vec<Adapter>,
    /// The adapter that --device gpu takes.
    chosen: Option<String>,
    /// The kernels that run on it.
    variant: Option<&'static str>,
    /// Where --device gpu trains; Burn looks for an adapter by itself.
    #[cfg(feature = "train")]
    training: Option<String>,
    /// Where `mor train` and `mor eval` compute without --device, and why.
    #[cfg(feature = "train")]
    training_auto: Option<String>,
}

#[derive(Serialize)]
struct Adapter {
    name: String,
    driver: String,
    backend: &'static str,
    /// Whether it is the processor.
    software: bool,
}

/// Looks and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let found = block_on(adapters());
    let gpu = block_on(Gpu::open());
    let chosen = gpu.as_ref().ok();
    let json = Json {
        isa: Isa::best().name(),
        threads: DecodeOptions::default_threads(),
        adapters: found
            .iter()
            .map(|adapter| Adapter {
                name: adapter.name.clone(),
                driver: adapter.driver.clone(),
                backend: adapter.backend,
                software: adapter.software,
            })
            .collect(),
        chosen: chosen.map(|gpu| gpu.description().to_string()),
        variant: chosen.map(|gpu| gpu.variant().name()),
        #[cfg(feature = "train")]
        training: trains_on(mor_train::DeviceChoice::Gpu),
        #[cfg(feature = "train")]
        training_auto: trains_on(mor_train::DeviceChoice::Auto),
    };
    let mut out = crate::output::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&json)?)?;
    } else {
        writeln!(out, "CPU  {} kernels, {} threads", json.isa, json.threads)?;
        for adapter in &found {
            let kind = match adapter.software {
                true => ", which is the processor",
                false => "",
            };
            writeln!(out, "GPU  {adapter}{kind}: {}", adapter.driver)?;
        }
        if let (Some(name), Some(variant)) = (&json.chosen, json.variant) {
            writeln!(
                out,
                "     --device gpu takes {name}, with {variant} kernels"
            )?;
        }
        #[cfg(feature = "train")]
        if let Some(name) = &json.training {
            writeln!(out, "     and trains on {name}")?;
        }
        #[cfg(feature = "train")]
        if let Some(name) = &json.training_auto {
            writeln!(out, "without --device, training runs on {name}")?;
        }
    }
    gpu?;
    Ok(())
}

/// Where training runs for a choice: what `mor train` itself would open and say.
#[cfg(feature = "train")]
fn trains_on(choice: mor_train::DeviceChoice) -> Option<String> {
    let device = mor_train::open_device(choice).ok()?;
    Some(device.description)
}
