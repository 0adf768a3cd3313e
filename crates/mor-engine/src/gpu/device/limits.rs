//! What an adapter must allow.

use mor_shaders::needs::{SHARED_BYTES, STORAGE_BUFFERS, WORKGROUP_INVOCATIONS, WORKGROUPS};

use super::adapter::AdapterDescription;
use crate::{EngineError, Result};

/// Checks that an adapter can run the kernels of every model. What a model's own sizes need is checked with them.
///
/// # Errors
/// [`EngineError::GpuLimit`].
pub(super) fn check_limits(adapter: &AdapterDescription, limits: &wgpu::Limits) -> Result<()> {
    for (what, needed, limit) in [
        (
            "a kernel's storage buffers",
            STORAGE_BUFFERS,
            limits.max_storage_buffers_per_shader_stage,
        ),
        (
            "a kernel's buffers that are bound from an offset on",
            1,
            limits.max_dynamic_storage_buffers_per_pipeline_layout,
        ),
        (
            "a workgroup's invocations",
            WORKGROUP_INVOCATIONS,
            limits.max_compute_invocations_per_workgroup,
        ),
        (
            "a workgroup's invocations along x",
            WORKGROUP_INVOCATIONS,
            limits.max_compute_workgroup_size_x,
        ),
        (
            "a workgroup's shared memory, in bytes,",
            SHARED_BYTES,
            limits.max_compute_workgroup_storage_size,
        ),
        (
            "a launch's workgroups along a dimension",
            WORKGROUPS,
            limits.max_compute_workgroups_per_dimension,
        ),
    ] {
        at_least(adapter, what, needed, limit)?;
    }
    Ok(())
}

/// Checks one limit.
///
/// # Errors
/// [`EngineError::GpuLimit`].
pub(crate) fn at_least(
    adapter: &AdapterDescription,
    what: &str,
    needed: u32,
    limit: u32,
) -> Result<()> {
    match needed > limit {
        true => Err(EngineError::GpuLimit {
            adapter: adapter.to_string(),
            what: what.to_owned(),
            needed: u64::from(needed),
            limit: u64::from(limit),
            remedy: "use the CPU",
        }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Limit = fn(&mut wgpu::Limits) -> &mut u32;

    #[test]
    fn each_limit_that_is_too_small_is_named() {
        let adapter = AdapterDescription {
            name: "Test 1".into(),
            driver: String::new(),
            backend: "Vulkan",
            software: false,
        };
        // What WebGPU promises is enough.
        let enough = wgpu::Limits::default();
        check_limits(&adapter, &enough).expect("enough");
        let cases: [(&str, Limit); 6] = [
            ("storage buffers", |l| {
                &mut l.max_storage_buffers_per_shader_stage
            }),
            ("from an offset on", |l| {
                &mut l.max_dynamic_storage_buffers_per_pipeline_layout
            }),
            ("a workgroup's invocations needs", |l| {
                &mut l.max_compute_invocations_per_workgroup
            }),
            ("along x", |l| &mut l.max_compute_workgroup_size_x),
            ("shared memory", |l| {
                &mut l.max_compute_workgroup_storage_size
            }),
            ("workgroups along a dimension", |l| {
                &mut l.max_compute_workgroups_per_dimension
            }),
        ];
        for (what, limit) in cases {
            let mut limits = enough.clone();
            *limit(&mut limits) = 0;
            let error = check_limits(&adapter, &limits).expect_err("too small");
            assert!(matches!(error, EngineError::GpuLimit { limit: 0, .. }));
            let text = error.to_string();
            assert!(text.contains(what) && text.contains("Test 1"), "{text}");
        }
    }
}
