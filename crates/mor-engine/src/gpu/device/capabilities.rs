//! What an adapter says of itself.

use std::collections::BTreeMap;

use super::adapter::{AdapterDescription, describe, fastest};
use crate::Result;

/// What the adapter that [`crate::gpu::Gpu::open`] takes can do, by its driver: for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Which it is.
    pub description: AdapterDescription,
    /// What kind: `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` or `Other`.
    pub kind: String,
    /// The vendor's number, as PCI has it.
    pub vendor: u32,
    /// The device's number among the vendor's.
    pub device: u32,
    /// The fewest and most invocations of a subgroup.
    pub subgroup_sizes: [u32; 2],
    /// Names of all features that it has, as WebGPU and wgpu call them.
    pub features: Vec<String>,
    /// The limits that matter to this project's kernels, by WebGPU's names.
    pub limits: BTreeMap<&'static str, u64>,
}

/// Asks the adapter that [`crate::gpu::Gpu::open`] takes, without opening it.
///
/// # Errors
/// [`crate::EngineError::NoAdapter`].
pub async fn capabilities() -> Result<Capabilities> {
    let adapter = fastest().await?;
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let features = adapter.features();
    let features = features.iter_names().map(|(name, _)| name.to_owned());
    let limits = [
        ("maxBufferSize", limits.max_buffer_size),
        (
            "maxStorageBufferBindingSize",
            limits.max_storage_buffer_binding_size,
        ),
        (
            "maxStorageBuffersPerShaderStage",
            limits.max_storage_buffers_per_shader_stage.into(),
        ),
        (
            "maxComputeWorkgroupStorageSize",
            limits.max_compute_workgroup_storage_size.into(),
        ),
        (
            "maxComputeInvocationsPerWorkgroup",
            limits.max_compute_invocations_per_workgroup.into(),
        ),
        (
            "maxComputeWorkgroupSizeX",
            limits.max_compute_workgroup_size_x.into(),
        ),
        (
            "maxComputeWorkgroupsPerDimension",
            limits.max_compute_workgroups_per_dimension.into(),
        ),
        (
            "minStorageBufferOffsetAlignment",
            limits.min_storage_buffer_offset_alignment.into(),
        ),
    ];
    Ok(Capabilities {
        description: describe(&adapter),
        kind: format!("{:?}", info.device_type),
        vendor: info.vendor,
        device: info.device,
        subgroup_sizes: [info.subgroup_min_size, info.subgroup_max_size],
        features: features.collect(),
        limits: limits.into_iter().collect(),
    })
}
