//! What a run will take, before it is started.

use std::time::Instant;

use super::{Clock, Trainer};
use crate::Result;
use crate::schedule::Budget;

/// Steps that are tried: the first pays for fresh memory, the second is timed.
const TRIED: u32 = 2;

/// A run's size and an estimate of its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Parameters of the model.
    pub parameters: usize,
    /// Tokens of the training data.
    pub tokens: u64,
    /// Optimizer steps of the run, about, unless the budget names them.
    pub steps: u64,
    /// Targets of a step, as in the one that was timed.
    pub tokens_per_step: u64,
    /// Seconds of that step.
    pub seconds_per_step: f64,
    /// Bytes of weights, gradients, and the optimizer's state.
    pub state_bytes: u64,
}

impl Plan {
    /// Seconds of the whole run, validations left out.
    pub fn seconds(&self) -> f64 {
        self.seconds_per_step * self.steps as f64
    }
}

impl Trainer {
    /// Takes a step or two to see what a run will take. The run is used up; give it an output folder that can be
    /// thrown away.
    ///
    /// # Errors
    /// As of training.
    pub fn plan(mut self) -> Result<Plan> {
        let train = self.recipe.train.clone();
        let clock = Clock {
            session: Instant::now(),
            before: 0.0,
            saved: Instant::now(),
        };
        let pools = self.order.pools() as f64;
        // All pools are of about one size, but the last may be shorter.
        let share = self.order.share(0, self.batches.len(), self.batches.len());
        let per_epoch = self.batches.len() as f64 * (1.0 / share.max(1e-9)).min(pools);
        let per_epoch = per_epoch / (train.accumulate * self.ranks.size()) as f64;
        let (mut seconds, mut tokens) = (0.0, 0);
        for _ in 0..TRIED {
            let rows = self.next_batches();
            let moment = self.moment(train.budget(), 0.0);
            let (started, before) = (Instant::now(), self.state.tokens);
            (self, _) = self.step(&rows, moment, &clock)?;
            seconds = started.elapsed().as_secs_f64();
            tokens = self.state.tokens - before;
        }
        let parameters = self.recipe.model.parameter_count().total;
        let moments = self.optimizer.elements();
        let averages = if train.ema.is_some() { parameters } else { 0 };
        Ok(Plan {
            parameters,
            tokens: self.train.tokens(),
            steps: match train.budget() {
                Budget::Steps(steps) => steps,
                Budget::Epochs(epochs) => (epochs * per_epoch).ceil() as u64,
                Budget::Minutes(minutes) => (minutes * 60.0 / seconds.max(1e-9)) as u64,
            },
            tokens_per_step: tokens,
            seconds_per_step: seconds,
            state_bytes: 4 * (2 * parameters + moments + averages) as u64,
        })
    }
}
