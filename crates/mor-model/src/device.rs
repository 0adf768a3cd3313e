//! Where a model runs.

use burn::tensor::Device;

use crate::error::DeviceError;

/// What a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU if there is one that is no program on the processor, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, also one that is a program on the processor.
    Gpu,
}

/// A device, and what is known of it.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    /// Where tensors live; without autodiff.
    pub device: Device,
    /// Whether it is a GPU.
    pub is_gpu: bool,
    /// Whether it stores and computes f16 (`shader-f16`).
    pub half: bool,
    /// Which it is, and why, in a few words.
    pub description: String,
}

/// The CPU, because of `why`.
fn cpu(why: &str) -> ChosenDevice {
    ChosenDevice {
        device: Device::flex(),
        is_gpu: false,
        half: false,
        description: format!("CPU ({why})"),
    }
}

/// Opens a device. A GPU's kernels come in variants; `MOR_GPU_VARIANT` overrides what fits the adapter.
///
/// # Errors
/// [`DeviceError`] when a GPU is asked for and there is none that works, or the variable names no variant that it runs.
pub fn open_device(choice: DeviceChoice) -> Result<ChosenDevice, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu("as asked")),
        DeviceChoice::Gpu => gpu(),
        DeviceChoice::Auto => match gpu_if_hardware() {
            Ok(Some(device)) => Ok(device),
            Ok(None) => Ok(cpu(
                "the only GPU is a program on the processor, which is used for --device gpu only",
            )),
            Err(error @ DeviceError::Variant(_)) => Err(error),
            Err(DeviceError::NotBuilt) => Ok(cpu("built without GPU support")),
            Err(DeviceError::NoAdapter(_)) => Ok(cpu(
                "no GPU was found; a program that plays one on the processor is used for --device gpu only",
            )),
            Err(error) => Ok(cpu(&error.to_string())),
        },
    }
}

/// Whether a device stores and computes f16, as one opened by [`open_device`] may.
pub fn supports_half(device: &Device) -> bool {
    if crate::ops::is_cpu(device) {
        return false;
    }
    // It is open already.
    gpu().is_ok_and(|chosen| chosen.half)
}

/// An adapter as a device.
#[cfg(feature = "gpu")]
fn opened(gpu: crate::gpu::Gpu) -> ChosenDevice {
    ChosenDevice {
        device: gpu.device,
        is_gpu: true,
        half: gpu.half,
        description: gpu.description,
    }
}

#[cfg(feature = "gpu")]
fn gpu() -> Result<ChosenDevice, DeviceError> {
    Ok(opened(crate::gpu::open()?))
}

#[cfg(feature = "gpu")]
fn gpu_if_hardware() -> Result<Option<ChosenDevice>, DeviceError> {
    if !mor_shaders::may_have_hardware() {
        // Also where it will not be used, a mistake is one.
        crate::gpu::variant_of_environment()?;
        return Err(DeviceError::NoAdapter("no driver is loaded".to_owned()));
    }
    let gpu = crate::gpu::open()?;
    Ok((!gpu.is_software).then(|| opened(gpu)))
}

#[cfg(not(feature = "gpu"))]
fn gpu() -> Result<ChosenDevice, DeviceError> {
    Err(DeviceError::NotBuilt)
}

#[cfg(not(feature = "gpu"))]
fn gpu_if_hardware() -> Result<Option<ChosenDevice>, DeviceError> {
    Err(DeviceError::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there() {
        let device = open_device(DeviceChoice::Cpu).expect("always there");
        assert!(!device.is_gpu && device.description.contains("as asked"));
    }
}
