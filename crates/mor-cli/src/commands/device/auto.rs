//! Choosing between the CPU and a GPU by trying both, once for each model.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use mor_config::{CONFIG_FILE, WEIGHTS_FILE, write_atomic};
use mor_engine::gpu::{Gpu, Variant, may_have_hardware};
use mor_engine::{Context, EngineError, SamplingOptions};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Placement;

/// Environment variable that names the folder of what is remembered.
const FOLDER_VARIABLE: &str = "MOR_CACHE_DIR";
/// Environment variable that has a program which plays a GPU on the processor tried like a GPU: for tests.
const SOFTWARE_VARIABLE: &str = "MOR_TRY_SOFTWARE_GPU";
/// Tokens that each device decodes while it is timed.
const TOKENS: usize = 8;
/// Days after which devices are tried anew: drivers change.
const DAYS: u64 = 30;

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Trial {
    /// Whether the GPU was faster.
    gpu: bool,
    /// In words.
    why: String,
    /// The GPU that was tried.
    adapter: String,
    /// Days since 1970.
    day: u64,
}

/// All that is remembered, by model.
type Trials = BTreeMap<String, Trial>;

/// A context on the faster device, which is said with the reason.
pub(super) fn place(placement: &Placement) -> Result<Context> {
    // A misspelt variable is for its author to correct, GPU or not.
    Variant::from_environment()?;
    let try_software = std::env::var_os(SOFTWARE_VARIABLE).is_some();
    if !may_have_hardware() && !try_software {
        return placement.on_cpu();
    }
    let gpu = match block_on(Gpu::open()) {
        Ok(gpu) => gpu,
        // Most machines without a GPU are used on purpose: nothing to report.
        Err(_) => return placement.on_cpu(),
    };
    if gpu.description().software && !try_software {
        return placement.on_cpu();
    }
    let adapter = format!("{} {}", gpu.description(), gpu.description().driver);
    let key = key(placement)?;
    let file = memory();
    let mut trials = file.as_deref().map_or_else(Trials::new, remembered);
    let today = today();
    let known = trials
        .get(&key)
        .filter(|trial| trial.adapter == adapter && today.saturating_sub(trial.day) < DAYS);
    if let Some(trial) = known {
        note!("on the {}, as tried before: {}", name(trial.gpu), trial.why);
        return match trial.gpu {
            true => placement
                .on(gpu)
                .or_else(|error| fall_back(placement, &error)),
            false => placement.on_cpu(),
        };
    }
    let mut cpu = placement.on_cpu()?;
    let mut other = match placement.on(gpu) {
        Ok(context) => context,
        Err(error) => return fall_back(placement, &error),
    };
    let trial = match compare(&mut cpu, &mut other) {
        Ok((gpu, why)) => Trial {
            gpu,
            why,
            adapter,
            day: today,
        },
        Err(error) => return fall_back(placement, &error.into()),
    };
    note!("on the {}: {}", name(trial.gpu), trial.why);
    let faster = if trial.gpu { other } else { cpu };
    trials.insert(key, trial);
    if let Some(file) = file {
        remember(&file, &trials);
    }
    Ok(faster)
}

fn name(gpu: bool) -> &'static str {
    if gpu { "GPU" } else { "CPU" }
}

fn fall_back(placement: &Placement, error: &anyhow::Error) -> Result<Context> {
    note!("{error:#}; going on, on the CPU");
    placement.on_cpu()
}

/// Whether the second context decodes faster than the first, and the figures. Both are empty before and after.
fn compare(cpu: &mut Context, gpu: &mut Context) -> Result<(bool, String), EngineError> {
    let cpu = speed(cpu)?;
    let gpu = speed(gpu)?;
    let why = format!("{gpu:.0} tokens/s on the GPU, {cpu:.0} on the CPU");
    Ok((gpu > cpu, why))
}

/// Tokens per second after a first one.
fn speed(context: &mut Context) -> Result<f64, EngineError> {
    let mut sampler = context.sampler(SamplingOptions::default())?;
    let config = context.config();
    // Any id but the pad's.
    let id = u32::from(config.pad_token_id == 0);
    let tokens = TOKENS.min(context.capacity().saturating_sub(2)).max(1);
    let mut start = Instant::now();
    block_on(context.set_context(&[id]))?;
    for token in 0..=tokens {
        let choice = block_on(context.choose(&mut sampler))?;
        if token == 0 {
            // The first one waited for kernels and caches to warm up.
            start = Instant::now();
        }
        block_on(context.push(choice.id))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    context.reset();
    Ok(tokens as f64 / seconds.max(1e-9))
}

/// What a model is remembered by: its configuration, its size, and how it runs.
fn key(placement: &Placement) -> Result<String> {
    let config = placement.folder.join(CONFIG_FILE);
    let config = fs::read(&config).with_context(|| config.display().to_string())?;
    let bytes = fs::metadata(placement.folder.join(WEIGHTS_FILE)).map_or(0, |file| file.len());
    let digest = Sha256::digest(config);
    let digest: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    let (precision, depth) = (placement.load.precision, placement.decode.depth);
    Ok(format!("{digest} {bytes} {precision:?} {depth:?}"))
}

fn today() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs() / 86_400)
}

/// The file that trials are remembered in, where the system has a place for such.
fn memory() -> Option<PathBuf> {
    let folder = match std::env::var_os(FOLDER_VARIABLE) {
        Some(folder) => PathBuf::from(folder),
        None => dirs::cache_dir()?.join("mor"),
    };
    Some(folder.join("devices.json"))
}

/// What a file remembers: nothing where it is missing or damaged, as all of it can be found out again.
fn remembered(file: &std::path::Path) -> Trials {
    let text = fs::read(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn remember(file: &std::path::Path, trials: &Trials) {
    let written = file
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(write_atomic(file, &serde_json::to_vec_pretty(trials)?)?));
    if let Err(error) = written {
        note!(
            "the choice cannot be remembered: {}: {error:#}",
            file.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::device::Device;
    use mor_engine::{DecodeOptions, LoadOptions};

    fn shipped() -> Placement {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = folder.join("../../models/technical-10m");
        Placement::new(&folder, LoadOptions::default(), DecodeOptions::default())
    }

    #[test]
    fn both_devices_are_timed_and_left_empty() {
        let mut cpu = shipped().on_cpu().expect("the shipped model");
        let mut gpu = shipped().place(Device::Gpu).expect("a Vulkan driver");
        let (faster, why) = compare(&mut cpu, &mut gpu).expect("two devices");
        let number = |at: usize| -> f64 {
            why.split(' ')
                .nth(at)
                .and_then(|n| n.parse().ok())
                .expect("a figure")
        };
        // On a processor that plays the GPU, the CPU is faster by far.
        assert_eq!(faster, number(0) > number(5), "{why}");
        assert!(number(0) > 0.0 && number(5) > 0.0, "{why}");
        assert!(cpu.ids().is_empty() && gpu.ids().is_empty());
    }

    #[test]
    fn trials_are_remembered_and_damage_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("new/devices.json");
        assert!(remembered(&file).is_empty());
        let trial = Trial {
            gpu: true,
            why: "9 tokens/s on the GPU, 8 on the CPU".into(),
            adapter: "a GPU".into(),
            day: 20_000,
        };
        let trials = Trials::from([("a model".to_owned(), trial)]);
        remember(&file, &trials);
        assert_eq!(remembered(&file), trials);
        fs::write(&file, b"{\"a model\": 3}").expect("writable");
        assert!(remembered(&file).is_empty());
    }

    #[test]
    fn a_lost_device_is_opened_anew_and_other_errors_are_given_back() {
        let lost = EngineError::DeviceLost {
            reason: "a test".into(),
        };
        let context = shipped().recover(lost).expect("another context");
        assert!(matches!(context, Context::Gpu(_)));
        let full = EngineError::GpuOutOfMemory {
            what: "weights".into(),
        };
        let context = shipped().recover(full).expect("another context");
        assert!(matches!(context, Context::Cpu(_)));
        assert!(shipped().recover(EngineError::EmptyPrompt).is_err());
    }
}
