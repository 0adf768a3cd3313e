//! A kernel by itself, apart from any model.

use std::sync::Arc;

use mor_shaders::Shader;

use super::buffer::Slice;
use super::open::Gpu;
use super::record::{Grid, Params, Recorder};
use crate::Result;

/// The numbers that a kernel reads as `params`, as far as it reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialParams {
    /// Rows of the launch.
    pub rows: u32,
    /// Position of the first row.
    pub first: u32,
    /// Number of the step.
    pub step: u32,
}

/// Runs a shader once on buffers of 4-byte words, in the order of its bindings and without `params`, and gives what is
/// then in those that it writes: for comparing it with the CPU.
///
/// # Errors
/// [`crate::EngineError::GpuLimit`], [`crate::EngineError::GpuOutOfMemory`] or the device's, also where the driver does
/// not take the shader.
pub async fn run_shader(
    gpu: &Arc<Gpu>,
    shader: Shader,
    buffers: &[Vec<u32>],
    numbers: TrialParams,
    grid: [u32; 3],
) -> Result<Vec<Vec<u32>>> {
    let pipeline = gpu.pipeline(shader);
    let mut uploaded = Vec::with_capacity(buffers.len());
    for words in buffers {
        uploaded.push(gpu.upload("an operand", bytemuck::cast_slice(words))?);
    }
    let mut recorder = Recorder::new(Arc::clone(gpu))?;
    gpu.check()?;
    let params = Params {
        rows: numbers.rows,
        first: numbers.first,
        step: numbers.step,
        ..Params::default()
    };
    let bound: Vec<&Slice> = uploaded.iter().collect();
    recorder.launch_once(&pipeline, &bound, params, Grid::Known(grid));
    let written: Vec<(&Slice, usize)> = uploaded
        .iter()
        .zip(buffers)
        .zip(pipeline.read_only())
        .filter(|(_, read_only)| !read_only)
        .map(|((slice, words), _)| (slice, words.len()))
        .collect();
    let total: usize = written.iter().map(|(_, words)| words).sum();
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let staging = gpu.buffer("results", total as u64 * 4, usage)?;
    let mut at = 0;
    for (slice, words) in &written {
        let to = Slice {
            buffer: staging.clone(),
            offset: at,
            size: *words as u64 * 4,
        };
        at += to.size;
        recorder.copy(slice.first(*words), to);
    }
    let read = recorder.read(&staging).await?;
    let read: Vec<u32> = bytemuck::pod_collect_to_vec(&read);
    let mut rest = read.as_slice();
    let parts = written.iter().map(|(_, words)| {
        let (part, others) = rest.split_at((*words).min(rest.len()));
        rest = others;
        part.to_vec()
    });
    Ok(parts.collect())
}
