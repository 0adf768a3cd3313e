//! Where a model runs: on the CPU or a GPU, and what happens when that fails.

#[cfg(feature = "gpu")]
mod auto;
#[cfg(feature = "gpu")]
mod gpu;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, Command, ValueEnum};
use mor_engine::{Context, DecodeOptions, Decoder, EngineError, LoadOptions, Model};

#[cfg(feature = "gpu")]
pub(crate) use gpu::trust;

/// Environment variable that stands for `--device`.
pub(crate) const DEVICE_VARIABLE: &str = "MOR_DEVICE";

/// What computes.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// The faster one, or in training the GPU where there is one.
    Auto,
    /// The processor.
    Cpu,
    /// A graphics processor, through Vulkan, Metal or DirectX 12.
    Gpu,
}

/// Reads a [`Device`]; an environment variable that is empty counts as not set.
#[derive(Clone)]
pub(crate) struct DeviceParser;

impl TypedValueParser for DeviceParser {
    type Value = Device;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Device, clap::Error> {
        EnumValueParser::<Device>::new().parse_ref(command, arg, value)
    }

    fn parse_ref_(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<Device, clap::Error> {
        match source == ValueSource::EnvVariable && value.is_empty() {
            true => Ok(Device::Auto),
            false => self.parse_ref(command, arg, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let variants = Device::value_variants().iter();
        Some(Box::new(variants.filter_map(ValueEnum::to_possible_value)))
    }
}

/// What a context is made of, so that another one can be made.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    folder: PathBuf,
    load: LoadOptions,
    decode: DecodeOptions,
    /// GPUs that were lost so far.
    #[cfg(feature = "gpu")]
    losses: std::cell::Cell<u32>,
}

/// GPUs that may be lost before the CPU goes on.
#[cfg(feature = "gpu")]
const LOSSES: u32 = 3;

impl Placement {
    /// A model in a folder, loaded and run in a way.
    pub(crate) fn new(folder: &Path, load: LoadOptions, decode: DecodeOptions) -> Self {
        Self {
            folder: folder.to_owned(),
            load,
            decode,
            #[cfg(feature = "gpu")]
            losses: std::cell::Cell::new(0),
        }
    }

    /// A context on a device.
    pub(crate) fn place(&self, device: Device) -> Result<Context> {
        match device {
            Device::Cpu => self.on_cpu(),
            #[cfg(feature = "gpu")]
            Device::Gpu => self.on_gpu(),
            #[cfg(feature = "gpu")]
            Device::Auto => auto::place(self),
            #[cfg(not(feature = "gpu"))]
            Device::Auto => self.on_cpu(),
            #[cfg(not(feature = "gpu"))]
            Device::Gpu => anyhow::bail!(
                "this program was built without GPU support; build it with --features gpu, or use --device cpu"
            ),
        }
    }

    /// A context on the CPU.
    pub(crate) fn on_cpu(&self) -> Result<Context> {
        let model = Arc::new(Model::load_with(&self.folder, self.load)?);
        Ok(Decoder::new(model, self.decode)?.into())
    }

    /// Another context in place of one on a GPU that failed with `error`, and run as that one was: on a GPU that was opened
    /// anew, or else on the CPU. Says so. Errors that no GPU is at fault for are given back.
    pub(crate) fn recover(&self, error: EngineError, failed: &Context) -> Result<Context> {
        if matches!(failed, Context::Cpu(_)) || !error.is_of_device() {
            return Err(error.into());
        }
        note!("{error}");
        let as_it_ran = Self {
            decode: failed.options(),
            ..self.clone()
        };
        #[cfg(feature = "gpu")]
        if error.is_loss() && self.losses.get() < LOSSES {
            self.losses.set(self.losses.get() + 1);
            match as_it_ran.on_gpu() {
                Ok(context) => {
                    note!("going on, on the GPU opened anew");
                    return Ok(context);
                }
                Err(error) => note!("{error}"),
            }
        }
        note!("going on, on the CPU");
        as_it_ran.on_cpu()
    }

    /// Tries `run` on a context until no GPU is at fault for its failure: one can fail more than once.
    pub(crate) fn surely<T>(
        &self,
        context: &mut Context,
        mut run: impl FnMut(&mut Context) -> Result<T, EngineError>,
    ) -> Result<T> {
        loop {
            match run(context) {
                Ok(done) => return Ok(done),
                Err(error) => *context = self.recover(error, context)?,
            }
        }
    }
}
