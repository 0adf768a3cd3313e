//! One optimizer step.

use std::time::Instant;

use mor_kernels::MatmulPrecision;
use mor_report::metrics::StepMetrics;

use super::{Clock, Trainer};
use crate::Result;
use crate::data::Row;
use crate::optimizer::clip_scale;
use crate::recipe::Matmul;
use crate::schedule::Moment;

/// Steps without a gradient out of range after which the factor on the loss is doubled (Micikevicius et al. 2018,
/// "Mixed precision training").
const LOSS_SCALE_STEPS: u32 = 2000;
/// Bounds of that factor.
const LOSS_SCALES: [f64; 2] = [1.0, 16_777_216.0];

impl Trainer {
    /// Takes one step with these batches, which are those of all processes.
    pub(super) fn step(
        mut self,
        rows: &[Vec<Row>],
        moment: Moment,
        clock: &Clock,
    ) -> Result<(Self, StepMetrics)> {
        let started = Instant::now();
        let learning_rate = self.recipe.train.schedule().learning_rate(moment);
        let (loss_scale, matmul) = (self.loss_scale(), self.matmul());
        let made = self.gradients(rows, moment.progress, loss_scale)?;
        let norm = made.norm / loss_scale;
        let skipped = !(made.loss.is_finite() && norm.is_finite());
        let mut spike = false;
        if skipped {
            made.gradients.recycle();
            self.skip();
        } else {
            let scale = clip_scale(norm, self.recipe.train.clip_norm) / loss_scale;
            self.model =
                self.optimizer
                    .step(self.model, made.gradients, learning_rate, scale, matmul);
            if let Some(average) = &mut self.average {
                self.model = average.follow(self.model, self.state.step);
            }
            self.state.tokens += made.counted as u64;
            self.state.skipped_in_a_row = 0;
            self.state.loss_scale_steps += 1;
            spike = self.state.losses.is_spike(made.loss);
            if self.state.loss_scale_steps >= LOSS_SCALE_STEPS {
                self.set_loss_scale(2.0);
            }
        }
        self.state.step += 1;
        self.state.seconds = clock.seconds();
        let bits = made.loss * made.counted as f64 / std::f64::consts::LN_2;
        let steps: u64 = made.depths.iter().sum();
        let taken = made.depths.iter().enumerate();
        let taken: u64 = taken.map(|(depth, count)| depth as u64 * count).sum();
        let metrics = StepMetrics {
            step: self.state.step,
            tokens: self.state.tokens,
            seconds: self.state.seconds,
            progress: moment.progress,
            loss: made.loss,
            bits_per_byte: bits / made.bytes.max(1.0),
            learning_rate,
            gradient_norm: norm,
            tokens_per_second: made.counted as f64 / started.elapsed().as_secs_f64().max(1e-9),
            depth: taken as f64 / steps.max(1) as f64,
            depths: made.depths,
            router: made.router,
            loss_scale: self.scales_loss().then_some(loss_scale),
            skipped,
            spike,
        };
        Ok((self, metrics))
    }

    /// Precision of a step's products on the CPU. A GPU's is [`ForwardOptions::half`](mor_model::ForwardOptions::half).
    pub(super) fn matmul(&self) -> MatmulPrecision {
        match self.on_gpu {
            true => MatmulPrecision::F32,
            false => self.recipe.train.matmul.into(),
        }
    }

    fn scales_loss(&self) -> bool {
        self.recipe.train.matmul == Matmul::F16
    }

    /// The factor on the loss of this step.
    fn loss_scale(&self) -> f64 {
        if self.scales_loss() {
            self.state.loss_scale
        } else {
            1.0
        }
    }

    fn set_loss_scale(&mut self, by: f64) {
        let [least, most] = LOSS_SCALES;
        self.state.loss_scale = (self.state.loss_scale * by).clamp(least, most);
        self.state.loss_scale_steps = 0;
    }

    /// Counts a step that came to nothing. While the factor on the loss can still be lowered, that is the remedy.
    fn skip(&mut self) {
        self.state.skipped += 1;
        if self.scales_loss() && self.state.loss_scale > LOSS_SCALES[0] {
            self.set_loss_scale(0.5);
        } else {
            self.state.skipped_in_a_row += 1;
        }
    }
}
