//! What the kernels of decoding and prefill need of an adapter, whatever the model: no more than WebGPU promises.

/// Storage buffers of a kernel.
pub const STORAGE_BUFFERS: u32 = 8;
/// Invocations of a workgroup, all along x.
pub const WORKGROUP_INVOCATIONS: u32 = 256;
/// Bytes that a workgroup shares; with heads above 256 values see [`crate::Attention::shared_bytes`].
pub const SHARED_BYTES: u32 = 16 << 10;
/// Workgroups of a launch along a dimension.
pub const WORKGROUPS: u32 = 65_535;
