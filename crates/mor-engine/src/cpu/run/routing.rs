//! How routers decide depth.

use mor_config::{ModelConfig, Pooling};

use super::cache::zeroed;
use crate::Result;
use crate::cpu::kernels::matmul::Activation;
use crate::cpu::kernels::matrix::padded;
use crate::cpu::pool::Pool;
use crate::cpu::weights::{Model, Router};

/// The mean of a layer's inputs over the positions so far, kept as a running sum. In f64, so that it does not
/// matter in which portions it was added up.
pub(crate) struct PooledMean {
    sum: Vec<f64>,
    /// Positions that were added or left out.
    seen: usize,
    /// Positions that were added.
    count: usize,
}

impl PooledMean {
    pub(crate) fn new(dim: usize) -> Self {
        Self {
            sum: vec![0.0; dim],
            seen: 0,
            count: 0,
        }
    }

    /// Takes in the next position's row, or passes over it.
    pub(crate) fn add(&mut self, row: &[f32], counts: bool) {
        self.seen += 1;
        if !counts {
            return;
        }
        self.count += 1;
        for (sum, x) in self.sum.iter_mut().zip(row) {
            *sum += f64::from(*x);
        }
    }

    /// Forgets what was said about positions from `len` on; `inputs` has rows of `width` for those before it.
    pub(crate) fn rewind(&mut self, len: usize, inputs: &[f32], width: usize, pooled: Pooled<'_>) {
        if self.seen <= len {
            return;
        }
        self.sum.fill(0.0);
        (self.seen, self.count) = (0, 0);
        for (position, row) in inputs.chunks_exact(width).take(len).enumerate() {
            self.add(row, pooled.counts(position));
        }
    }

    /// The mean, `[dim]`; zeros where no position counts.
    pub(crate) fn write(&self, out: &mut [f32]) {
        let count = self.count.max(1) as f64;
        for (mean, sum) in out.iter_mut().zip(&self.sum) {
            *mean = (sum / count) as f32;
        }
    }
}

/// Which positions a router pools over.
#[derive(Clone, Copy)]
pub(crate) struct Pooled<'a> {
    pub(crate) pooling: Pooling,
    /// Per position, 0 unless it is hidden as a key.
    pub(crate) mask: &'a [f32],
}

impl Pooled<'_> {
    pub(crate) fn counts(&self, position: usize) -> bool {
        self.pooling == Pooling::Sequence || self.mask[position] == 0.0
    }
}

/// Inputs, intermediate values and results of routers, for a few rows at once.
pub(crate) struct RouterBuffers {
    /// Input, `[row][dim, padded]`.
    pub(crate) pooled: Vec<f32>,
    projected: Vec<f32>,
    hidden: Vec<f32>,
    classes: Vec<f32>,
    /// Elements between the rows of `classes`.
    stride: usize,
}

impl RouterBuffers {
    /// Room for `rows` rows.
    pub(crate) fn new(config: &ModelConfig, rows: usize) -> Result<Self> {
        let classes = config.routing.steps_of_classes().len();
        let of = |width: usize| {
            let len = padded(width).checked_mul(rows);
            zeroed(len, config.max_position_embeddings)
        };
        Ok(Self {
            pooled: of(config.hidden_size)?,
            projected: of(config.hidden_size)?,
            hidden: of(config.router_hidden())?,
            classes: of(classes)?,
            stride: padded(classes),
        })
    }

    /// Classifies the first `rows` pooled inputs.
    pub(crate) fn classify(
        &mut self,
        model: &Model,
        pool: &mut Pool,
        router: &Router,
        rows: usize,
    ) {
        let kernels = &model.kernels;
        let input = match &router.pooler {
            None => &self.pooled,
            Some(pooler) => {
                let out = &mut self.projected;
                kernels.rows_on(pool, pooler, &self.pooled, out, rows, Activation::None);
                let used = rows * padded(pooler.matrix.rows());
                out[..used].iter_mut().for_each(|x| *x = x.tanh());
                &self.projected
            }
        };
        let hidden = &mut self.hidden;
        kernels.rows_on(pool, &router.hidden, input, hidden, rows, Activation::Gelu);
        let classes = &mut self.classes;
        kernels.rows_on(
            pool,
            &router.output,
            hidden,
            classes,
            rows,
            Activation::None,
        );
    }

    /// Number of steps that a row's likeliest class stands for.
    pub(crate) fn steps(&self, row: usize, class_steps: &[u8]) -> u8 {
        let classes = &self.classes[row * self.stride..][..class_steps.len()];
        let mut best = 0;
        for (class, x) in classes.iter().enumerate() {
            // The first of equals, as the reference's argmax.
            if *x > classes[best] {
                best = class;
            }
        }
        class_steps[best]
    }

    /// Writes the probabilities of a row's classes.
    pub(crate) fn probabilities(&self, row: usize, out: &mut [f32]) {
        let classes = &self.classes[row * self.stride..][..out.len()];
        let top = classes.iter().copied().fold(f32::MIN, f32::max);
        for (p, x) in out.iter_mut().zip(classes) {
            *p = (x - top).exp();
        }
        let total: f32 = out.iter().sum();
        out.iter_mut().for_each(|p| *p /= total);
    }
}
