//! Keys and values of every position, for one step of one layer.

use crate::cpu::kernels::matrix::padded;
use crate::cpu::kernels::simd::LANES;
use crate::{EngineError, Result};

/// A zeroed buffer, or an error where memory is short: sizes follow from untrusted configurations.
pub(crate) fn zeroed(len: Option<usize>, context: usize) -> Result<Vec<f32>> {
    let out_of_memory = || EngineError::OutOfMemory {
        context,
        bytes: len.unwrap_or(usize::MAX / 4).saturating_mul(4),
    };
    let len = len.ok_or_else(out_of_memory)?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| out_of_memory())?;
    buffer.resize(len, 0.0);
    Ok(buffer)
}

/// The cache of one step of one layer, laid out as `cpu::attention` reads it.
pub(crate) struct StepCache {
    /// Per head, `[position / 16][head_dim][16]`.
    pub(crate) keys: Vec<f32>,
    /// Per head, `[channel / 16][capacity][16]`.
    pub(crate) values: Vec<f32>,
}

impl StepCache {
    /// Takes over the keys and values of a position.
    pub(super) fn copy_position(&mut self, from: &Self, shape: CacheShape, position: usize) {
        for head in 0..shape.heads {
            let (keys, values) = (head * shape.key_stride(), head * shape.value_stride());
            for channel in 0..shape.head_dim {
                let at = keys + shape.key_at(position) + channel * LANES;
                self.keys[at] = from.keys[at];
                let at = values + shape.value_at(position, channel);
                self.values[at] = from.values[at];
            }
        }
    }
}

/// Sizes of every step's cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheShape {
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    /// Positions, whole panels.
    pub(crate) capacity: usize,
}

impl CacheShape {
    pub(crate) fn new(heads: usize, head_dim: usize, context: usize) -> Self {
        Self {
            heads,
            head_dim,
            capacity: padded(context),
        }
    }

    /// Elements between the keys of two heads.
    pub(crate) fn key_stride(&self) -> usize {
        self.capacity * self.head_dim
    }

    /// Elements between the values of two heads.
    pub(crate) fn value_stride(&self) -> usize {
        self.capacity * padded(self.head_dim)
    }

    /// Where channel 0 of a key lies in its head; the next channel is [`LANES`] further.
    pub(crate) fn key_at(&self, position: usize) -> usize {
        position / LANES * self.head_dim * LANES + position % LANES
    }

    /// Where a channel of a value lies in its head.
    pub(crate) fn value_at(&self, position: usize, channel: usize) -> usize {
        (channel / LANES * self.capacity + position) * LANES + channel % LANES
    }

    /// Elements of keys plus values, unless that overflows.
    pub(crate) fn elements(&self) -> Option<usize> {
        let per_position = self.head_dim.checked_add(padded(self.head_dim))?;
        self.capacity
            .checked_mul(per_position)?
            .checked_mul(self.heads)
    }

    pub(crate) fn allocate(&self, context: usize) -> Result<StepCache> {
        let of = |stride: usize| zeroed(stride.checked_mul(self.heads), context);
        Ok(StepCache {
            keys: of(self.key_stride())?,
            values: of(self.value_stride())?,
        })
    }
}
