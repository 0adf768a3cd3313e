//! The part of a batch that takes a step, gathered so that the rest costs nothing.

use std::sync::Arc;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::ops::{self, Positions};

/// Which rows, or which positions of which rows, take a step.
pub(crate) struct Gathered {
    /// Rows that take part.
    rows: usize,
    /// Positions of each of them.
    width: usize,
    /// Whether whole rows are moved; else single positions.
    whole: bool,
    /// Numbers of the rows, or of the positions among all, on the device; as many as there are to gather, at least.
    list: Tensor<1, Int>,
    /// Where the gathered positions were in their rows.
    positions: Option<Arc<Positions>>,
    /// Of single positions, which take the step, `[rows, width]`: rows are filled up to the longest with halted ones.
    filled: Option<Tensor<2, Bool>>,
}

impl Gathered {
    /// Those of a batch `[batch, seq]` with a depth above `step`. There is a depth for each row, or for each position,
    /// row by row. `None` if all take part.
    pub(crate) fn new(
        depths: &[usize],
        step: usize,
        [batch, seq]: [usize; 2],
        device: &Device,
    ) -> Option<Self> {
        if depths.iter().all(|depth| *depth > step) {
            return None;
        }
        Some(if depths.len() == batch {
            Self::whole_rows(depths, step, seq, device)
        } else {
            Self::single_positions(depths, step, seq, device)
        })
    }

    fn whole_rows(depths: &[usize], step: usize, seq: usize, device: &Device) -> Self {
        let all: Vec<i64> = depths.iter().map(|depth| *depth as i64).collect();
        let all = Tensor::from_data(all.as_slice(), device);
        Self {
            rows: depths.iter().filter(|depth| **depth > step).count(),
            width: seq,
            whole: true,
            list: ops::select_rows(all, step as u32).0,
            positions: None,
            filled: None,
        }
    }

    fn single_positions(depths: &[usize], step: usize, seq: usize, device: &Device) -> Self {
        let count = |row: &[usize]| row.iter().filter(|depth| **depth > step).count();
        let counts: Vec<usize> = depths.chunks_exact(seq).map(count).collect();
        let width = counts.iter().copied().max().unwrap_or(0);
        let (mut list, mut positions, mut takes) = (Vec::new(), Vec::new(), Vec::new());
        let rows = depths.chunks_exact(seq).enumerate();
        for (row, depths) in rows.filter(|(row, _)| counts[*row] > 0) {
            let at = |going: bool| (0..seq).filter(move |at| (depths[*at] > step) == going);
            // None twice, as a row may be in a list once only. Those behind are seen by none of those in front.
            for at in at(true).chain(at(false)).take(width) {
                list.push((row * seq + at) as i64);
                positions.push(at as u32);
                takes.push(depths[at] > step);
            }
        }
        let rows = list.len() / width.max(1);
        let filled = takes.contains(&false).then(|| {
            let takes = TensorData::new(takes, [rows, width]);
            Tensor::from_data(takes, device)
        });
        Self {
            rows,
            width,
            whole: false,
            list: Tensor::from_data(list.as_slice(), device),
            positions: Some(Arc::new(positions.into_iter().collect())),
            filled,
        }
    }

    /// See [`crate::recursion::Seen`].
    pub(crate) fn positions(&self) -> Option<Arc<Positions>> {
        self.positions.clone()
    }

    /// What takes part of `x: [batch, seq or 1, dim]`, `[rows, width or 1, dim]`. One that stands for a whole row goes
    /// with rows only.
    pub(crate) fn gather(&self, x: Tensor<3>) -> Tensor<3> {
        if self.whole {
            return ops::gather_rows(x, self.list.clone(), self.rows);
        }
        let [batch, seq, dim] = x.dims();
        let x = x.reshape([batch * seq, dim]);
        let chosen = ops::gather_rows(x, self.list.clone(), self.rows * self.width);
        chosen.reshape([self.rows, self.width, dim])
    }

    /// What takes part of `mask: [batch, seq]`, `[rows, width]`.
    pub(crate) fn gather_mask(&self, mask: Tensor<2, Bool>) -> Tensor<2, Bool> {
        // By way of integers: Burn's CPU backend selects Booleans into another representation of them.
        let mask = mask.int();
        let chosen = if self.whole {
            mask.select(0, self.list.clone().narrow(0, 0, self.rows))
        } else {
            let [batch, seq] = mask.dims();
            let mask = mask.reshape([batch * seq]);
            let chosen = mask.select(0, self.list.clone());
            chosen.reshape([self.rows, self.width])
        };
        chosen.equal_elem(1)
    }

    /// `x` with what took part replaced by `next`, and what only filled up left as `chosen` has it.
    pub(crate) fn scatter(&self, x: Tensor<3>, chosen: Tensor<3>, next: Tensor<3>) -> Tensor<3> {
        if self.whole {
            return ops::scatter_rows(x, next, self.list.clone());
        }
        let [batch, seq, dim] = x.dims();
        let shape = [self.rows, self.width, dim];
        let next = match &self.filled {
            Some(takes) => {
                let takes = takes.clone().unsqueeze_dim::<3>(2).expand(shape);
                chosen.mask_where(takes, next)
            }
            None => next,
        };
        let next = next.reshape([self.rows * self.width, dim]);
        let x = x.reshape([batch * seq, dim]);
        ops::scatter_rows(x, next, self.list.clone()).reshape([batch, seq, dim])
    }
}
