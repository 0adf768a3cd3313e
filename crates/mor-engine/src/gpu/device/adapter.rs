//! Finding a GPU.

use crate::{EngineError, Result};

/// What a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterDescription {
    /// Its name, as its driver says.
    pub name: String,
    /// The driver and its version; empty where a browser does not tell.
    pub driver: String,
    /// The interface it is reached by: `Vulkan`, `Metal`, `Dx12` or `WebGPU`.
    pub backend: &'static str,
    /// Whether it is no GPU but the processor.
    pub software: bool,
}

impl std::fmt::Display for AdapterDescription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.name.is_empty() {
            true => "a GPU",
            false => &self.name,
        };
        write!(f, "{name} ({})", self.backend)
    }
}

/// The GPUs that this machine has drivers for; the processor is one where a driver plays a GPU on it.
#[cfg(not(target_arch = "wasm32"))]
pub async fn adapters() -> Vec<AdapterDescription> {
    let found = instance().enumerate_adapters(wgpu::Backends::PRIMARY).await;
    found.iter().map(describe).collect()
}

/// The adapter that is opened.
pub(super) async fn fastest() -> Result<wgpu::Adapter> {
    instance()
        .request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        })
        .await
        .map_err(|error| EngineError::NoAdapter {
            found: error.to_string(),
        })
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // Not OpenGL, which others in a program may have switched on: its compute shaders lack too much.
    descriptor.backends = wgpu::Backends::PRIMARY;
    // Sizes of dispatches that kernels write are right by construction; checking them would cost a kernel each.
    descriptor.flags -= wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL;
    wgpu::Instance::new(descriptor)
}

pub(super) fn describe(adapter: &wgpu::Adapter) -> AdapterDescription {
    let info = adapter.get_info();
    AdapterDescription {
        name: info.name,
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_owned(),
        backend: backend_name(info.backend),
        software: info.device_type == wgpu::DeviceType::Cpu,
    }
}

fn backend_name(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::Vulkan => "Vulkan",
        wgpu::Backend::Metal => "Metal",
        wgpu::Backend::Dx12 => "Dx12",
        wgpu::Backend::BrowserWebGpu => "WebGPU",
        wgpu::Backend::Gl | wgpu::Backend::Noop => "other",
    }
}
