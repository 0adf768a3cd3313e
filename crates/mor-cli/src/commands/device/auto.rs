//! Choosing between the CPU and a GPU by trying both, once for each model.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mor_config::{CONFIG_FILE, WEIGHTS_FILE};
use mor_engine::gpu::{Variant, adapters, may_have_hardware};
use mor_engine::{Context, DecodeOptions, EngineError, SamplingOptions};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Placement;

/// Environment variable that names the folder of what is remembered.
const FOLDER_VARIABLE: &str = "MOR_CACHE_DIR";
/// Environment variable that has a program which plays a GPU on the processor tried like a GPU: for tests.
const SOFTWARE_VARIABLE: &str = "MOR_TRY_SOFTWARE_GPU";
/// How long each device decodes while it is timed: a few tokens of a fast one say little.
const LEAST_TIME: Duration = Duration::from_millis(100);
/// Tokens after which that ends in any case.
const MOST_TOKENS: usize = 64;
/// Days after which devices are tried anew: drivers change.
const DAYS: u64 = 30;

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Trial {
    /// Whether the GPU was faster.
    gpu: bool,
    /// In words.
    why: String,
    /// The GPUs there were.
    adapters: String,
    /// Days since 1970.
    day: u64,
}

/// All that is remembered, by model.
type Trials = BTreeMap<String, Trial>;

/// A context on the faster device, which is said with the reason.
pub(super) fn place(placement: &Placement) -> Result<Context> {
    // A misspelt variable is for its author to correct, GPU or not.
    let variant = Variant::from_environment()?;
    let try_software = std::env::var_os(SOFTWARE_VARIABLE).is_some();
    if !may_have_hardware() && !try_software {
        return placement.on_cpu();
    }
    let found = block_on(adapters());
    let usable = found
        .iter()
        .filter(|adapter| try_software || !adapter.software);
    let names: Vec<String> = usable
        .map(|adapter| format!("{adapter} {}", adapter.driver))
        .collect();
    // Most machines without a GPU are used on purpose: nothing to report.
    if names.is_empty() {
        return placement.on_cpu();
    }
    let key = key(placement, variant)?;
    let file = memory();
    let mut trials = file.as_deref().map_or_else(Trials::new, remembered);
    let adapters = names.join(", ");
    let today = today();
    let known = trials
        .get(&key)
        .filter(|trial| trial.adapters == adapters && today.saturating_sub(trial.day) < DAYS);
    if let Some(trial) = known {
        note!("on the {}, as tried before: {}", name(trial.gpu), trial.why);
        return match trial.gpu {
            true => placement.on_gpu().or_else(|error| {
                say_why(&error);
                placement.on_cpu()
            }),
            false => placement.on_cpu(),
        };
    }
    let mut cpu = placement.on_cpu()?;
    let compared = placement.on_gpu().and_then(|mut other| {
        let (gpu, why) = compare(&mut cpu, &mut other)?;
        Ok((other, gpu, why))
    });
    let (other, gpu, why) = match compared {
        Ok(compared) => compared,
        Err(error) => {
            say_why(&error);
            return Ok(cpu);
        }
    };
    let trial = Trial {
        gpu,
        why,
        adapters,
        day: today,
    };
    note!("on the {}: {}", name(trial.gpu), trial.why);
    let faster = if trial.gpu { other } else { cpu };
    trials.retain(|_, trial| today.saturating_sub(trial.day) < DAYS);
    trials.insert(key, trial);
    if let Some(file) = file {
        remember(&file, &trials);
    }
    Ok(faster)
}

fn name(gpu: bool) -> &'static str {
    if gpu { "GPU" } else { "CPU" }
}

/// Why it is not the GPU.
fn say_why(error: &anyhow::Error) {
    note!("{error:#}; going on, on the CPU");
}

/// Whether the second context decodes faster than the first, and the figures. Both are empty before and after.
fn compare(cpu: &mut Context, gpu: &mut Context) -> Result<(bool, String), EngineError> {
    let cpu = speed(cpu)?;
    let gpu = speed(gpu)?;
    let why = format!("{gpu:.0} tokens/s on the GPU, {cpu:.0} on the CPU");
    Ok((gpu > cpu, why))
}

/// Tokens per second after a first one, over [`LEAST_TIME`] or [`MOST_TOKENS`].
fn speed(context: &mut Context) -> Result<f64, EngineError> {
    let mut sampler = context.sampler(SamplingOptions::default())?;
    let config = context.config();
    // Any id but the pad's.
    let first = u32::from(config.pad_token_id == 0);
    let most = MOST_TOKENS.min(context.capacity().saturating_sub(2)).max(1);
    let mut write = |context: &mut Context| {
        let choice = block_on(context.choose(&mut sampler))?;
        block_on(context.push(choice.id))
    };
    block_on(context.set_context(&[first]))?;
    // Waits for kernels and caches to warm up.
    write(context)?;
    let start = Instant::now();
    let mut tokens = 0;
    while tokens < most && start.elapsed() < LEAST_TIME {
        write(context)?;
        tokens += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    context.reset();
    Ok(tokens as f64 / seconds.max(1e-9))
}

/// What a model is remembered by: its configuration, its size, and how it runs on either device.
fn key(placement: &Placement, variant: Option<Variant>) -> Result<String> {
    let config = placement.folder.join(CONFIG_FILE);
    let config = fs::read(&config).with_context(|| config.display().to_string())?;
    let bytes = fs::metadata(placement.folder.join(WEIGHTS_FILE)).map_or(0, |file| file.len());
    let digest = Sha256::digest(config);
    let digest: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    let precision = placement.load.precision;
    let DecodeOptions {
        depth,
        routing,
        threads,
    } = placement.decode;
    let kernels = variant.map_or("", Variant::name);
    Ok(format!(
        "{digest} {bytes} {precision:?} {depth:?} {routing:?} {threads} {kernels}"
    ))
}

fn today() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs() / 86_400)
}

/// The file that trials are remembered in, where the system has a place for such.
fn memory() -> Option<PathBuf> {
    let named = std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty());
    let folder = match named {
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
    let written = serde_json::to_vec_pretty(trials)
        .map_err(anyhow::Error::from)
        .and_then(|text| Ok(mor_files::write(file, &text)?));
    if let Err(error) = written {
        note!("the choice cannot be remembered: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::device::Device;
    use mor_config::Depth;
    use mor_engine::LoadOptions;

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
            adapters: "a GPU".into(),
            day: 20_000,
        };
        let trials = Trials::from([("a model".to_owned(), trial)]);
        remember(&file, &trials);
        assert_eq!(remembered(&file), trials);
        fs::write(&file, b"{\"a model\": 3}").expect("writable");
        assert!(remembered(&file).is_empty());
    }

    #[test]
    fn a_gpu_that_is_lost_again_and_again_leaves_the_cpu() {
        let placement = shipped();
        let mut context = placement.place(Device::Gpu).expect("a Vulkan driver");
        let mut failures = 0;
        let done = placement.surely(&mut context, |context| match context {
            Context::Gpu(_) => {
                failures += 1;
                Err(EngineError::DeviceLost {
                    reason: "a test".into(),
                })
            }
            Context::Cpu(_) => Ok("done"),
        });
        assert_eq!(done.expect("the CPU is always left"), "done");
        assert_eq!(failures, 1 + super::super::LOSSES);
    }

    #[test]
    fn a_lost_device_is_opened_anew_and_other_errors_are_given_back() {
        let place = |device| shipped().place(device).expect("a Vulkan driver");
        let options = DecodeOptions {
            depth: Depth::Forced(1),
            ..DecodeOptions::default()
        };
        let lost = || EngineError::DeviceLost {
            reason: "a test".into(),
        };
        // It runs as the one before it did, which is not how the program was started.
        let Context::Gpu(shallow) = place(Device::Gpu) else {
            panic!("it was to be on a GPU");
        };
        let shallow = block_on(shallow.with_options(options)).expect("room");
        let context = shipped().recover(lost(), &shallow.into());
        let context = context.expect("another context");
        assert!(matches!(context, Context::Gpu(_)));
        assert_eq!(context.options().depth, Depth::Forced(1));
        let full = EngineError::GpuOutOfMemory {
            what: "weights".into(),
        };
        let context = shipped().recover(full, &context).expect("another context");
        assert!(matches!(context, Context::Cpu(_)));
        assert_eq!(context.options().depth, Depth::Forced(1));
        // The CPU cannot be lost, and an empty prompt is one anywhere.
        assert!(shipped().recover(lost(), &context).is_err());
        let gpu = place(Device::Gpu);
        assert!(shipped().recover(EngineError::EmptyPrompt, &gpu).is_err());
    }
}
