//! The training loop.

mod average;
mod backward;
mod plan;
mod resume;
mod samples;
mod save;
mod setup;
mod step;

pub use plan::Plan;
pub(crate) use setup::check_tokenizer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use mor_config::{ModelConfig, Precision};
use mor_model::Model;
use mor_report::metrics::{StepMetrics, ValidationMetrics};
use mor_text::Tokenizer;

use crate::checkpoint::{Best, State};
use crate::data::{Dataset, Order, Row};
use crate::depth::DepthPlan;
use crate::optimizer::Optimizer;
use crate::ranks::Ranks;
use crate::recipe::{Matmul, Recipe};
use crate::run::RunFolder;
use crate::schedule::{Budget, Moment, Position};
use crate::{Result, TrainError};
use average::Average;
use save::Records;

/// Steps in a row whose loss or gradient is not a finite number before a run gives up.
const MAX_SKIPPED: u32 = 10;

/// The files of a run.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Training data of any kind that [`Dataset::open`] takes.
    pub data: PathBuf,
    /// Validation data of the same kinds.
    pub valid: Option<PathBuf>,
    /// Folder with `tokenizer.json`; overrides the recipe's.
    pub tokenizer: Option<PathBuf>,
    /// Model folder whose weights a fresh run starts from, in place of random ones.
    pub init: Option<PathBuf>,
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
    /// A checkpoint or the model begins to be written (true), or that has ended (false).
    Saving(bool),
    /// Something went wrong that training survives, such as a checkpoint that a full disk did not take.
    Warning(&'a str),
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
    /// Stopped on request after this many steps; a checkpoint is saved if there were any.
    Interrupted {
        /// Steps taken so far.
        step: u64,
    },
}

/// A run that is ready to go: model and optimizer fresh or from a checkpoint.
#[derive(Debug)]
pub struct Trainer {
    recipe: Recipe,
    folder: RunFolder,
    tokenizer: Tokenizer,
    train: Dataset,
    valid: Option<Dataset>,
    model: Model,
    optimizer: Optimizer,
    average: Option<Average>,
    state: State,
    depths: DepthPlan,
    order: Order,
    /// The batches of the current pool.
    batches: Vec<Vec<Row>>,
    /// What the first of the processes writes as it goes.
    records: Option<Records>,
    ranks: Box<dyn Ranks>,
    /// Whether a GPU computes.
    on_gpu: bool,
    /// Whether the last checkpoint could not be written.
    unsaved: bool,
    /// What was found and mended while the run was set up.
    warnings: Vec<String>,
    /// Keeps other processes out of the folder.
    _lock: Option<File>,
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

    /// The recipe that is followed.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The data trained on.
    pub fn train_data(&self) -> &Dataset {
        &self.train
    }

    /// Where the run stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What was found and mended while the run was set up.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Trains until the budget is used up or `stop` is set, then saves; a finished run also
    /// exports its model. `on_event` hears of every step and validation.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] when too many steps in a row had to be skipped, [`TrainError::NothingLearned`] when all
    /// were, or an I/O error of the last save.
    pub fn run(mut self, stop: &AtomicBool, on_event: &mut dyn FnMut(Event)) -> Result<Outcome> {
        let mut clock = Clock {
            session: Instant::now(),
            before: self.state.seconds,
            saved: Instant::now(),
        };
        let budget = self.recipe.train.budget();
        while !budget.is_spent(self.position()) {
            // Processes have clocks and signals of their own: all follow the first one's clock and anyone's signal.
            let asked = f64::from(u8::from(stop.load(Ordering::Relaxed)));
            let seconds = if self.ranks.is_first() {
                self.state.seconds
            } else {
                0.0
            };
            let mut agreed = [asked, seconds];
            self.ranks.sum_f64(&mut agreed)?;
            self.state.seconds = agreed[1];
            if agreed[0] > 0.0 {
                if self.state.step > 0 {
                    self.save_and_tell(on_event)?;
                    self.report(on_event);
                }
                self.ranks.finish()?;
                return Ok(Outcome::Interrupted {
                    step: self.state.step,
                });
            }
            let before = budget.progress(self.position());
            let rows = self.next_batches();
            let moment = self.moment(budget, before);
            let mut metrics;
            (self, metrics) = self.step(&rows, moment, &clock)?;
            metrics.progress = budget.progress(self.position());
            self.record(&metrics, on_event);
            on_event(Event::Step {
                metrics: &metrics,
                seconds_left: seconds_left(&metrics),
            });
            if self.state.skipped_in_a_row >= MAX_SKIPPED {
                return Err(self.diverged(&rows));
            }
            self = self.validate_or_save(&mut clock, on_event)?;
        }
        if self.state.skipped >= self.state.step {
            self.report(on_event);
            return Err(self.nothing_learned());
        }
        if self.state.validated != Some(self.state.step) {
            self = self.validate(&clock, on_event)?;
            self.unsaved = true;
        }
        if self.unsaved {
            self.save_and_tell(on_event)?;
        }
        let model = self.folder.model();
        if self.ranks.is_first() {
            on_event(Event::Saving(true));
            let staged = mor_files::StagedFolder::new(&model)?;
            crate::export::export(self.folder.path(), staged.path(), Precision::F32)?;
            staged.commit(mor_config::CONFIG_FILE, &mor_text::OLDER_FILES)?;
            on_event(Event::Saving(false));
        }
        self.report(on_event);
        self.ranks.finish()?;
        Ok(Outcome::Finished {
            model,
            best: self.state.best,
        })
    }

    /// What is due after a step: a validation with a checkpoint, a checkpoint, or nothing.
    fn validate_or_save(
        mut self,
        clock: &mut Clock,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        let train = &self.recipe.train;
        let step = self.state.step;
        let validates = step.is_multiple_of(train.validate_every);
        let by_steps = train
            .checkpoint_steps
            .is_some_and(|steps| step.is_multiple_of(steps));
        let best = self.state.best;
        let by_clock = clock.saved.elapsed().as_secs_f64() >= train.checkpoint_minutes * 60.0;
        if validates {
            self = self.validate(clock, on_event)?;
        }
        if validates || by_steps || by_clock {
            // The run goes on without this checkpoint: there is the one before, and space may become free.
            let saved = self.save_and_tell(on_event);
            self.unsaved = saved.is_err();
            if let Err(error) = saved {
                // What is not on disk cannot be what is exported in the end.
                self.state.best = best;
                on_event(Event::Warning(&format!(
                    "no checkpoint after step {step}: {error}; the one before stays"
                )));
            }
            clock.saved = Instant::now();
        }
        if validates {
            self.report(on_event);
        }
        Ok(self)
    }

    /// Writes a checkpoint, and says when that begins and ends.
    fn save_and_tell(&self, on_event: &mut dyn FnMut(Event)) -> Result<()> {
        on_event(Event::Saving(true));
        let saved = self.save();
        on_event(Event::Saving(false));
        saved
    }

    fn position(&self) -> Position {
        let done = self
            .order
            .share(self.state.pool, self.state.batch, self.batches.len());
        Position {
            step: self.state.step,
            epochs: self.state.epoch as f64 + done,
            seconds: self.state.seconds,
        }
    }

    /// The moment at which the next step begins, which is `progress` into the budget; its batches have been taken.
    fn moment(&self, budget: Budget, progress: f64) -> Moment {
        let step = self.state.step;
        let resolution = match budget {
            Budget::Steps(steps) => 1.0 / steps as f64,
            Budget::Epochs(_) => budget.progress(self.position()) - progress,
            Budget::Minutes(_) if step == 0 => self.recipe.train.warmup * 1e-2,
            Budget::Minutes(_) => progress / step as f64,
        };
        Moment {
            step,
            progress,
            resolution,
        }
    }

    /// Moves to the next batches of the data order, `accumulate` of them for each process, unless the epoch ends.
    fn next_batches(&mut self) -> Vec<Vec<Row>> {
        let wanted = self.recipe.train.accumulate * self.ranks.size();
        let mut taken = Vec::with_capacity(wanted);
        while taken.len() < wanted {
            if self.state.batch >= self.batches.len() {
                if self.state.pool + 1 < self.order.pools() {
                    self.state.pool += 1;
                } else if taken.is_empty() {
                    self.state.epoch += 1;
                    self.state.pool = 0;
                } else {
                    break;
                }
                self.state.batch = 0;
                self.batches = self.pool();
                continue;
            }
            // Each is used once; only their number matters after that.
            taken.push(std::mem::take(&mut self.batches[self.state.batch]));
            self.state.batch += 1;
        }
        taken
    }

    fn pool(&self) -> Vec<Vec<Row>> {
        self.order
            .batches(&self.train, self.state.epoch, self.state.pool)
    }

    /// Saves the batches that led nowhere, for looking at.
    fn diverged(&self, rows: &[Vec<Row>]) -> TrainError {
        let path = self.folder.diverged(self.state.step);
        let mut ids = Vec::new();
        let rows: Vec<_> = rows
            .iter()
            .flatten()
            .map(|row| {
                ids.clear();
                self.train.read(*row, &mut ids);
                serde_json::json!({
                    "document": row.document,
                    "ids": ids,
                    "text": String::from_utf8_lossy(&self.tokenizer.decode_bytes(&ids, true)),
                })
            })
            .collect();
        let text = format!("{:#}\n", serde_json::Value::Array(rows));
        let saved = mor_files::write(&path, text.as_bytes()).is_ok();
        TrainError::Diverged {
            count: self.state.skipped_in_a_row,
            step: self.state.step,
            batch: if saved {
                format!("; its batch is in {}", path.display())
            } else {
                String::new()
            },
            weights: match self.state.best {
                Some(_) => format!(
                    ", from the weights of its best checkpoint if you like: mor export --run {} --output MODEL, then \
                     --init MODEL",
                    self.folder.path().display()
                ),
                None => String::new(),
            },
        }
    }

    fn nothing_learned(&self) -> TrainError {
        TrainError::NothingLearned {
            steps: self.state.step,
            remedy: match self.recipe.train.matmul {
                Matmul::F16 => "lower train.loss_scale, or use train.matmul = \"f32\"",
                Matmul::F32 | Matmul::Bf16 => "start from other weights",
            },
        }
    }
}

fn seconds_left(metrics: &StepMetrics) -> f64 {
    if metrics.progress <= 0.0 {
        return 0.0;
    }
    metrics.seconds * (1.0 - metrics.progress) / metrics.progress
}
