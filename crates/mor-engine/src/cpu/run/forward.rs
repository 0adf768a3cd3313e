//! One pass of new positions through the layers.

use std::ops::Range;

use super::cache::{CacheShape, StepCache};
use super::layer_step::{Buffers, LayerStep};
use super::routing::{Pooled, RouterBuffers};
use crate::cpu::pool::Pool;
use crate::cpu::weights::{Layer, Model};

/// Positions that pass through a layer together: each weight is read once for all of them. Even, see
/// [`Forward::product_rows`].
pub(super) const BLOCK: usize = 128;

/// What every layer of a pass needs.
pub(super) struct Forward<'a> {
    pub(super) model: &'a Model,
    pub(super) pool: &'a mut Pool,
    pub(super) buffers: &'a mut Buffers,
    pub(super) router: &'a mut RouterBuffers,
    pub(super) shape: CacheShape,
    /// What routers pool over, and so which positions are hidden as keys.
    pub(super) pooled: Pooled<'a>,
    /// 0, 1, 2, …
    pub(super) positions: &'a [usize],
    /// Elements between the rows of hidden states.
    pub(super) width: usize,
    /// Positions in all, those of this pass included.
    pub(super) len: usize,
    /// Whether routers decide anew.
    pub(super) decide: bool,
    /// Whether products run on even numbers of rows.
    pub(super) even: bool,
    /// Counts positions times steps.
    pub(super) computed: &'a mut u64,
}

impl Forward<'_> {
    /// Rows that a product of `rows` rows runs on.
    ///
    /// Kernels sum in another order for one row than for several. Where later tokens must not change a bit
    /// of earlier results, no row of a prompt may be alone: which one would be depends on their number.
    pub(super) fn product_rows(&self, rows: usize) -> usize {
        if self.even {
            rows.next_multiple_of(2)
        } else {
            rows
        }
    }

    /// Applies one step to `rows`, which belong to `positions`.
    pub(super) fn step(
        &mut self,
        (layer, step): (&Layer, usize),
        cache: &mut StepCache,
        mask: &[f32],
        positions: &[usize],
        rows: &mut [f32],
    ) {
        *self.computed += positions.len() as u64;
        let product_rows = self.product_rows(positions.len());
        let layer_step = LayerStep {
            model: self.model,
            block: &layer.block,
            projection: layer.step_projections.get(step),
            pool: &mut *self.pool,
            buffers: &mut *self.buffers,
            shape: self.shape,
            mask,
            positions,
            product_rows,
            width: self.width,
        };
        layer_step.run(cache, rows);
    }
}

/// `range` in blocks.
pub(super) fn blocks(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range
        .step_by(BLOCK)
        .map(move |first| first..end.min(first + BLOCK))
}

#[cfg(test)]
mod tests {
    #[test]
    fn blocks_cover_the_range() {
        let blocks: Vec<_> = super::blocks(5..270).collect();
        assert_eq!(blocks, [5..133, 133..261, 261..270]);
        assert_eq!(super::blocks(3..3).count(), 0);
    }
}
