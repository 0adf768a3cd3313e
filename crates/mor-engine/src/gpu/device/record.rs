//! Recording launches, submitting them at once, and reading a result back.

use std::collections::HashMap;
use std::sync::Arc;

use futures_channel::oneshot;

use super::buffer::{Buffer, Slice};
use super::counters::Counters;
use super::open::Gpu;
use super::pipeline::Pipeline;
use crate::{EngineError, Result};

/// Bytes between the numbers of two launches: what offsets are multiples of on every adapter.
const SLOT: u64 = 256;
/// Launches' numbers that are kept until they are submitted.
const SLOTS: usize = 128;
/// Buffers that a decoder binds together, before the list of them is dropped and grows anew.
const BIND_GROUPS: usize = 4096;

/// Numbers that kernels read as `params`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params {
    /// Rows of the launch.
    pub(crate) rows: u32,
    /// Positions of the caches.
    pub(crate) keys: u32,
    /// Position of the first row.
    pub(crate) first: u32,
    /// Number of the step.
    pub(crate) step: u32,
    /// Whether the row of a decoded token counts in its routers' means.
    pub(crate) counts: bool,
    /// Whether it can be seen as a key.
    pub(crate) visible: bool,
    pub(crate) layer: u32,
    /// Whether routers decide anew.
    pub(crate) decide: bool,
}

impl Params {
    fn words(self) -> [u32; 8] {
        [
            self.rows,
            self.keys,
            self.first,
            self.step,
            u32::from(self.counts),
            u32::from(self.visible),
            self.layer,
            u32::from(self.decide),
        ]
    }
}

/// Workgroups of a launch.
#[derive(Clone, Debug)]
pub(crate) enum Grid {
    /// Known here.
    Known([u32; 3]),
    /// Written by an earlier launch, at an offset in bytes.
    Decided(Buffer, u64),
}

/// Where a kernel finds the numbers of its launch.
#[derive(Clone, Copy)]
pub(crate) enum Numbers<'a> {
    /// Known here.
    Known(Params),
    /// Written by an earlier launch.
    Written(&'a Slice),
}

impl From<Params> for Numbers<'_> {
    fn from(params: Params) -> Self {
        Self::Known(params)
    }
}

/// Bytes that are read: so many in any case, and so many for each position up to the launch's first row, which counts too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) fixed: u64,
    pub(crate) per_position: u64,
}

impl Reads {
    /// As many wherever the row is.
    pub(crate) fn fixed(bytes: u64) -> Self {
        Self {
            fixed: bytes,
            per_position: 0,
        }
    }

    /// As many for each position.
    pub(crate) fn per_position(bytes: u64) -> Self {
        Self {
            fixed: 0,
            per_position: bytes,
        }
    }

    /// Bytes where there are `positions` positions.
    pub(crate) fn of(self, positions: u64) -> u64 {
        self.fixed + positions * self.per_position
    }
}

impl std::iter::Sum for Reads {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, more| Self {
            fixed: sum.fixed + more.fixed,
            per_position: sum.per_position + more.per_position,
        })
    }
}

/// A kernel with its buffers bound, to be launched any number of times.
#[derive(Clone)]
pub(crate) struct Launch {
    pipeline: Arc<Pipeline>,
    bindings: wgpu::BindGroup,
    /// Whether an earlier launch writes its numbers.
    written: bool,
    grid: Grid,
    pub(crate) reads: Reads,
}

enum Op {
    Launch { launch: Launch, params: Option<u32> },
    Copy { from: Slice, to: Slice },
}

/// What is to be done, until it is submitted.
pub(crate) struct Recorder {
    gpu: Arc<Gpu>,
    ops: Vec<Op>,
    /// Numbers of launches that were not submitted yet.
    slots: Vec<[u32; 8]>,
    params: Buffer,
    groups: HashMap<(usize, Vec<Slice>), wgpu::BindGroup>,
    pub(crate) counters: Counters,
}

impl Recorder {
    pub(crate) fn new(gpu: Arc<Gpu>) -> Result<Self> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        Ok(Self {
            params: gpu.buffer("launches' numbers", SLOT * SLOTS as u64, usage)?,
            gpu,
            ops: Vec::new(),
            slots: Vec::new(),
            groups: HashMap::new(),
            counters: Counters::default(),
        })
    }

    /// Forgets what was not submitted; false if there is nothing.
    pub(crate) fn clear(&mut self) -> bool {
        let forgotten = !self.ops.is_empty();
        self.ops.clear();
        self.slots.clear();
        forgotten
    }

    /// Numbers for the launches to come.
    pub(crate) fn params(&mut self, params: Params) -> u32 {
        let words = params.words();
        if let Some(at) = self.slots.iter().position(|slot| *slot == words) {
            return at as u32;
        }
        if self.slots.len() == SLOTS {
            self.submit();
        }
        self.slots.push(words);
        self.slots.len() as u32 - 1
    }

    /// Binds a kernel's buffers, in the order of its bindings and without that of its numbers, which an earlier launch has
    /// `written`, or each launch brings. Of every buffer that it only reads it reads as much as is bound, or as `partly` says.
    pub(crate) fn prepare(
        &mut self,
        pipeline: &Arc<Pipeline>,
        buffers: &[&Slice],
        written: Option<&Slice>,
        grid: Grid,
        partly: &[(&Slice, Reads)],
    ) -> Launch {
        let bytes = |slice: &Slice| {
            let part = partly.iter().find(|(some, _)| *some == slice);
            part.map_or(Reads::fixed(slice.size), |(_, reads)| *reads)
        };
        let read = buffers.iter().zip(pipeline.read_only());
        let read = read.filter(|(_, read_only)| *read_only);
        let reads = read.map(|(slice, _)| bytes(slice)).sum();
        let mut bound: Vec<Slice> = buffers.iter().map(|slice| (*slice).clone()).collect();
        if pipeline.params {
            bound.push(written.cloned().unwrap_or_else(|| Slice {
                buffer: self.params.clone(),
                offset: 0,
                size: SLOT,
            }));
        }
        let key = (Arc::as_ptr(pipeline) as usize, bound);
        if self.groups.len() > BIND_GROUPS {
            self.groups.clear();
        }
        let bindings = match self.groups.get(&key) {
            Some(group) => group.clone(),
            None => {
                let group = bind(&self.gpu.device, pipeline, &key.1);
                self.groups.insert(key, group.clone());
                group
            }
        };
        Launch {
            pipeline: Arc::clone(pipeline),
            bindings,
            written: written.is_some(),
            grid,
            reads,
        }
    }

    /// Launches a kernel whose buffers are bound, with these numbers if it takes any.
    pub(crate) fn launch(&mut self, launch: &Launch, params: Params) {
        let slot = launch.pipeline.params.then(|| match launch.written {
            true => 0,
            false => self.params(params),
        });
        // Whether the others run is known only later.
        if let Grid::Known(_) = launch.grid {
            self.counters.launches += 1;
            self.counters.bytes_read += launch.reads.of(u64::from(params.first) + 1);
        }
        self.ops.push(Op::Launch {
            launch: launch.clone(),
            params: slot,
        });
    }

    /// Binds a kernel's buffers and launches it, once.
    pub(crate) fn launch_once<'a>(
        &mut self,
        pipeline: &Arc<Pipeline>,
        buffers: &[&Slice],
        numbers: impl Into<Numbers<'a>>,
        grid: Grid,
    ) {
        let (params, written) = match numbers.into() {
            Numbers::Known(params) => (params, None),
            Numbers::Written(slice) => (Params::default(), Some(slice)),
        };
        let launch = self.prepare(pipeline, buffers, written, grid, &[]);
        self.launch(&launch, params);
    }

    /// Copies between buffers; the sizes are the same.
    pub(crate) fn copy(&mut self, from: Slice, to: Slice) {
        self.ops.push(Op::Copy { from, to });
    }

    /// Hands everything recorded to the GPU.
    pub(crate) fn submit(&mut self) {
        if self.ops.is_empty() {
            return;
        }
        let words: Vec<u32> = self
            .slots
            .iter()
            .flat_map(|slot| slot.iter().copied().chain([0; SLOT as usize / 4 - 8]))
            .collect();
        let queue = &self.gpu.queue;
        queue.write_buffer(&self.params, 0, bytemuck::cast_slice(&words));
        let mut encoder = self
            .gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        let mut ops = self.ops.drain(..).peekable();
        while let Some(op) = ops.next() {
            match op {
                Op::Copy { from, to } => encoder.copy_buffer_to_buffer(
                    &from.buffer,
                    from.offset,
                    &to.buffer,
                    to.offset,
                    Some(from.size.min(to.size)),
                ),
                launch @ Op::Launch { .. } => {
                    let mut pass =
                        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                    let mut next = Some(launch);
                    while let Some(Op::Launch { launch, params }) = next {
                        pass.set_pipeline(&launch.pipeline.pipeline);
                        let offset = params.map(|slot| slot * SLOT as u32);
                        pass.set_bind_group(0, &launch.bindings, offset.as_slice());
                        match &launch.grid {
                            Grid::Known([x, y, z]) => pass.dispatch_workgroups(*x, *y, *z),
                            Grid::Decided(buffer, offset) => {
                                pass.dispatch_workgroups_indirect(buffer, *offset);
                            }
                        }
                        next = ops.next_if(|op| matches!(op, Op::Launch { .. }));
                    }
                }
            }
        }
        drop(ops);
        queue.submit([encoder.finish()]);
        self.slots.clear();
        self.counters.submits += 1;
    }

    /// Submits, and waits for the contents of a buffer that can be mapped.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`], [`EngineError::GpuOutOfMemory`] or [`EngineError::Gpu`].
    pub(crate) async fn read(&mut self, staging: &Buffer) -> Result<Vec<u8>> {
        self.gpu.check()?;
        self.submit();
        let (sender, receiver) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // Nobody waits any more if this fails.
            let _ = sender.send(result);
        });
        self.gpu.wait()?;
        let mapped = receiver.await;
        let failed = |what: String| EngineError::DeviceLost { reason: what };
        let bytes = match mapped {
            Ok(Ok(())) => {
                let view = staging.get_mapped_range(..);
                let bytes = view.map(|view| view.to_vec());
                staging.unmap();
                bytes.map_err(|error| failed(error.to_string()))
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("it never answered".to_owned())),
        };
        // What the driver said tells more.
        self.gpu.check()?;
        self.counters.readbacks += u64::from(bytes.is_ok());
        bytes
    }
}

/// The buffers of a launch, in the order of its bindings.
fn bind(device: &wgpu::Device, pipeline: &Pipeline, buffers: &[Slice]) -> wgpu::BindGroup {
    let entries = buffers.iter().zip(0..);
    let entries: Vec<_> = entries
        .map(|(slice, binding)| wgpu::BindGroupEntry {
            binding,
            resource: slice.binding(),
        })
        .collect();
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(&pipeline.label),
        layout: &pipeline.layout,
        entries: &entries,
    })
}
