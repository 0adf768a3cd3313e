//! The training loop.

mod setup;
mod step;

pub(crate) use setup::check_tokenizer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use mor_config::{Depth, ModelConfig, Precision};
use mor_kernels::{MatmulPrecision, set_matmul_precision};
use mor_model::Model;
use mor_text::Tokenizer;

use crate::checkpoint::{self, AVERAGE_PREFIX, Best, State, Tensors};
use crate::data::{Dataset, epoch_batches};
use crate::depth::DepthPlan;
use crate::evaluate::evaluate;
use crate::metrics::{MetricsFile, StepMetrics, ValidationMetrics};
use crate::optimizer::Optimizer;
use crate::recipe::Recipe;
use crate::run::RunFolder;
use crate::schedule::Position;
use crate::{Result, TrainError};

/// Steps with a loss that is not a finite number before a run gives up.
const MAX_SKIPPED: u32 = 10;

/// The files of a run.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Training data: chat `.jsonl`, or `.txt`.
    pub data: PathBuf,
    /// Validation data of the same kinds.
    pub valid: Option<PathBuf>,
    /// Folder with `tokenizer.json`; overrides the recipe's.
    pub tokenizer: Option<PathBuf>,
    /// The run's folder.
    pub output: PathBuf,
}

/// What a run reports as it goes.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A step is done; `seconds_left` is an estimate for the rest of the budget.
    Step {
        /// The step's figures, as in `metrics.jsonl`.
        metrics: &'a StepMetrics,
        /// Estimated seconds until the budget is used up.
        seconds_left: f64,
    },
    /// A validation is under way; the finished share.
    Validating(f64),
    /// A validation is done.
    Validation {
        /// Its figures, as in `metrics.jsonl`.
        metrics: &'a ValidationMetrics,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The budget is used up; the model was exported to this folder.
    Finished {
        /// The exported model.
        model: PathBuf,
        /// The best validation, if there was one.
        best: Option<Best>,
    },
    /// Stopped on request after this many steps; `last` is saved.
    Interrupted {
        /// Steps taken so far.
        step: u64,
    },
}

/// A run that is ready to go: data in memory, model and optimizer fresh or from a checkpoint.
#[derive(Debug)]
pub struct Trainer {
    recipe: Recipe,
    folder: RunFolder,
    tokenizer: Tokenizer,
    train: Dataset,
    valid: Option<Dataset>,
    model: Model,
    optimizer: Optimizer,
    /// Moving averages of the weights, in the order of the configuration's tensors.
    average: Option<Vec<Vec<f32>>>,
    state: State,
    metrics: MetricsFile,
    depths: DepthPlan,
    /// The current epoch's batches.
    batches: Vec<Vec<usize>>,
    /// Keeps other processes out of the folder.
    _lock: File,
}

/// The clock of one session.
struct Clock {
    session: Instant,
    /// Seconds of earlier sessions.
    before: f64,
    saved: Instant,
}

impl Clock {
    fn seconds(&self) -> f64 {
        self.before + self.session.elapsed().as_secs_f64()
    }
}

impl Trainer {
    /// The model's configuration, with the vocabulary as the tokenizer has it.
    pub fn model_config(&self) -> &ModelConfig {
        &self.recipe.model
    }

    /// The data trained on.
    pub fn train_data(&self) -> &Dataset {
        &self.train
    }

    /// The data measured on.
    pub fn valid_data(&self) -> Option<&Dataset> {
        self.valid.as_ref()
    }

    /// Where the run stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Trains until the budget is used up or `stop` is set, then saves; a finished run also
    /// exports its model. `on_event` hears of every step and validation.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] when too many steps had to be skipped, or an I/O error.
    pub fn run(mut self, stop: &AtomicBool, on_event: &mut dyn FnMut(Event)) -> Result<Outcome> {
        let mut clock = Clock {
            session: Instant::now(),
            before: self.state.seconds,
            saved: Instant::now(),
        };
        let budget = self.recipe.train.budget();
        let mut progress = budget.progress(self.position());
        // A step's share of the budget is only known exactly for a budget of steps.
        let mut resolution = match budget {
            crate::schedule::Budget::Steps(steps) => 1.0 / steps as f64,
            _ => self.recipe.train.warmup * 1e-2,
        };
        while !budget.is_spent(self.position()) {
            if stop.load(Ordering::Relaxed) {
                if self.state.step > 0 {
                    self.save()?;
                }
                return Ok(Outcome::Interrupted {
                    step: self.state.step,
                });
            }
            set_matmul_precision(self.recipe.train.matmul.into());
            let result = self.step(progress, resolution, &clock);
            set_matmul_precision(MatmulPrecision::F32);
            let metrics;
            (self, metrics) = result?;
            let reached = budget.progress(self.position());
            let metrics = StepMetrics {
                progress: reached,
                ..metrics
            };
            if reached > progress {
                resolution = reached - progress;
            }
            progress = reached;
            self.metrics.write(&metrics)?;
            on_event(Event::Step {
                metrics: &metrics,
                seconds_left: seconds_left(&metrics),
            });
            if self.state.skipped >= MAX_SKIPPED {
                return Err(TrainError::Diverged {
                    count: self.state.skipped,
                    step: self.state.step,
                });
            }
            if self
                .state
                .step
                .is_multiple_of(self.recipe.train.validate_every)
            {
                self = self.validate(&clock, on_event)?;
                clock.saved = Instant::now();
            } else if clock.saved.elapsed().as_secs_f64()
                >= self.recipe.train.checkpoint_minutes * 60.0
            {
                self.save()?;
                clock.saved = Instant::now();
            }
        }
        if self.state.validated != Some(self.state.step) {
            self = self.validate(&clock, on_event)?;
        }
        let model = self.folder.model();
        crate::export::export(self.folder.path(), &model, Precision::F32)?;
        Ok(Outcome::Finished {
            model,
            best: self.state.best,
        })
    }

    fn position(&self) -> Position {
        let done = self.state.batch as f64 / self.batches.len().max(1) as f64;
        Position {
            step: self.state.step,
            epochs: self.state.epoch as f64 + done,
            seconds: self.state.seconds,
        }
    }

    /// Measures the validation data, if there is any, and saves `last` and, where it improved,
    /// `best`.
    fn validate(mut self, clock: &Clock, on_event: &mut dyn FnMut(Event)) -> Result<Self> {
        let Some(valid) = &self.valid else {
            self.state.validated = Some(self.state.step);
            self.save()?;
            return Ok(self);
        };
        // The average is what will be used, so it is what gets measured.
        let (model, average) = swap(self.model, self.average);
        let batch_tokens = self.recipe.train.batch_tokens;
        let report = evaluate(&model, valid, Depth::Configured, batch_tokens, |share| {
            on_event(Event::Validating(share));
        })?;
        (self.model, self.average) = swap(model, average);
        self.state.seconds = clock.seconds();
        let metrics = ValidationMetrics {
            step: self.state.step,
            seconds: self.state.seconds,
            validation: report.total.summary(),
        };
        let bits_per_byte = metrics.validation.bits_per_byte;
        let best = bits_per_byte.is_finite()
            && self
                .state
                .best
                .is_none_or(|best| bits_per_byte < best.bits_per_byte);
        if best {
            self.state.best = Some(Best {
                step: self.state.step,
                bits_per_byte,
            });
        }
        self.state.validated = Some(self.state.step);
        self.metrics.write(&metrics)?;
        self.save()?;
        if best {
            checkpoint::link_copy(&self.folder.last(), &self.folder.best())?;
        }
        on_event(Event::Validation {
            metrics: &metrics,
            best,
        });
        Ok(self)
    }

    /// Writes the checkpoint `last`.
    fn save(&self) -> Result<()> {
        let weights = self.model.to_tensors();
        let mut state = self.optimizer.to_tensors();
        if let Some(average) = &self.average {
            state.extend(named_average(&weights, average));
        }
        checkpoint::write(
            &self.folder.last(),
            &self.recipe,
            &self.tokenizer,
            &self.state,
            &weights,
            &state,
        )
    }

    /// Moves to the next batches of the data order, `accumulate` of them unless the epoch ends.
    fn next_batches(&mut self) -> Vec<Vec<usize>> {
        if self.state.batch >= self.batches.len() {
            self.state.epoch += 1;
            self.state.batch = 0;
            self.batches = self.epoch(self.state.epoch);
        }
        let start = self.state.batch;
        let end = (start + self.recipe.train.accumulate).min(self.batches.len());
        self.state.batch = end;
        self.batches[start..end].to_vec()
    }

    fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        let train = &self.recipe.train;
        epoch_batches(&self.train, train.batch_tokens, train.seed, epoch)
    }
}

fn named_average(weights: &Tensors, average: &[Vec<f32>]) -> Tensors {
    let pairs = weights.iter().zip(average);
    pairs
        .map(|((name, shape, _), values)| {
            let name = format!("{AVERAGE_PREFIX}{name}");
            (name, shape.clone(), values.clone())
        })
        .collect()
}

/// Exchanges the weights with their moving averages; without averages nothing changes.
fn swap(model: Model, mut average: Option<Vec<Vec<f32>>>) -> (Model, Option<Vec<Vec<f32>>>) {
    let Some(values) = &mut average else {
        return (model, average);
    };
    let model = model.update(|parameter| {
        if let Some(average) = values.get_mut(parameter.index) {
            parameter.values.swap_with_slice(average);
        }
    });
    (model, average)
}

fn seconds_left(metrics: &StepMetrics) -> f64 {
    if metrics.progress <= 0.0 {
        return 0.0;
    }
    metrics.seconds * (1.0 - metrics.progress) / metrics.progress
}
