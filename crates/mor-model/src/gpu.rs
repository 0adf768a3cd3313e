//! The GPU adapter that Burn runs on, opened once in a process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use burn::cubecl::logging::{LaunchObservation, LaunchObserver};
use burn::cubecl::{MemoryScope, MemoryUsage};
use burn::tensor::Device;
use burn::tensor::wgpu::{WgpuBackend, WgpuInitError, WgpuSetup, wgpu};
pub use mor_shaders::{Replacement, Variant};

use crate::error::DeviceError;
use crate::ops::backend::launch;

/// The graphics interfaces that are tried, the preferred one first. OpenGL is not among them: its compute shaders
/// lack too much, and it talks to the screen.
const APIS: &[WgpuBackend] = if cfg!(target_vendor = "apple") {
    &[WgpuBackend::Metal]
} else if cfg!(windows) {
    &[WgpuBackend::Vulkan, WgpuBackend::Dx12]
} else {
    &[WgpuBackend::Vulkan]
};

/// An adapter that works.
#[derive(Debug, Clone)]
pub(crate) struct Gpu {
    /// Without autodiff.
    pub(crate) device: Device,
    /// Whether it stores and computes f16.
    pub(crate) half: bool,
    /// What it is, in a few words.
    pub(crate) description: String,
    /// Whether it is a program on the processor.
    pub(crate) is_software: bool,
    /// Whether it has subgroup operations.
    subgroups: bool,
}

/// Makes the project's own kernels use this variant from now on, in the whole process; for tests.
pub fn set_variant(variant: Variant) {
    launch::set_variant(variant);
}

/// Whether the adapter, which is open, runs kernels of a variant.
pub fn supports(variant: Variant) -> bool {
    variant != Variant::Subgroup || open().is_ok_and(|gpu| gpu.subgroups)
}

/// Makes the kernels of an operation others in the whole process, or with `None` what they are; for tests of what notices
/// a broken one.
pub fn replace(with: Option<Replacement>) {
    launch::replace(with);
}

/// Whether the adapter, which is open, is a program on the processor; such a one has all that tests need.
pub fn is_software() -> bool {
    open().is_ok_and(|gpu| gpu.is_software)
}

/// The variant in use.
pub fn variant() -> Variant {
    launch::variant()
}

/// Runs `work` and counts the kernels that it launches on the GPU, Burn's among them.
pub fn count_launches<T>(work: impl FnOnce() -> T) -> (T, usize) {
    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl LaunchObserver for Counter {
        fn launched(&self, _: &'static str) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let counter = Arc::new(Counter::default());
    let observation = LaunchObservation::new(counter.clone());
    let done = work();
    drop(observation);
    (done, counter.0.load(Ordering::Relaxed))
}

/// Bytes that tensors take on the GPU now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Of tensors.
    pub in_use: u64,
    /// Of these, and of what is kept for the next ones.
    pub reserved: u64,
}

/// The GPU's memory, once one of the project's own kernels has run there.
pub fn memory() -> Option<Memory> {
    let MemoryUsage {
        bytes_in_use,
        bytes_reserved,
        ..
    } = launch::client()?.memory_report(MemoryScope::Device).usage();
    Some(Memory {
        in_use: bytes_in_use,
        reserved: bytes_reserved,
    })
}

/// The adapter, opened on the first call.
pub(crate) fn open() -> Result<Gpu, DeviceError> {
    static OPENED: OnceLock<Result<Gpu, DeviceError>> = OnceLock::new();
    OPENED.get_or_init(open_first).clone()
}

fn open_first() -> Result<Gpu, DeviceError> {
    // Before anything is opened, so that a mistake costs nothing.
    let asked = variant_of_environment()?;
    let mut found: Option<(Device, WgpuSetup)> = None;
    let mut problem = None;
    for api in APIS {
        let options = Device::wgpu_options().graphics_api(*api);
        match options.init_with_setup() {
            Ok(opened) => {
                let hardware = !is_processor(&opened.1);
                if hardware || found.is_none() {
                    found = Some(opened);
                }
                if hardware {
                    break;
                }
            }
            Err(error) => problem = Some(error),
        }
    }
    let Some((device, setup)) = found else {
        return Err(match problem {
            Some(WgpuInitError::AdapterUnavailable { message, .. }) => {
                DeviceError::NoAdapter(message)
            }
            Some(other) => DeviceError::Unusable(other.to_string()),
            None => DeviceError::NoAdapter("this system has no graphics interface".to_owned()),
        });
    };
    let info = setup.adapter.get_info();
    let is_software = is_processor(&setup);
    let (features, limits) = (setup.device.features(), setup.device.limits());
    let subgroups = features.contains(wgpu::Features::SUBGROUP);
    let variant = Variant::chosen(asked, is_software, subgroups)
        .map_err(|error| DeviceError::Variant(error.to_string()))?;
    launch::set_variant(variant);
    let largest = limits
        .max_storage_buffer_binding_size
        .min(limits.max_buffer_size);
    launch::set_largest_buffer(largest.try_into().unwrap_or(usize::MAX));
    Ok(Gpu {
        device,
        half: features.contains(wgpu::Features::SHADER_F16),
        description: format!("GPU: {} ({}, {variant} kernels)", info.name, info.backend),
        is_software,
        subgroups,
    })
}

fn is_processor(setup: &WgpuSetup) -> bool {
    setup.adapter.get_info().device_type == wgpu::DeviceType::Cpu
}

/// The variant that `MOR_GPU_VARIANT` asks for, if it is set.
pub(crate) fn variant_of_environment() -> Result<Option<Variant>, DeviceError> {
    Variant::from_environment().map_err(|error| DeviceError::Variant(error.to_string()))
}
