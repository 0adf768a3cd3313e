//! What a run writes as it goes: checkpoints, metrics, events and the report.

use mor_report::metrics::{StepMetrics, ValidationMetrics};
use mor_report::tensorboard::EventWriter;
use mor_report::{MetricsFile, RunFacts, write_report};

use super::{Clock, Event, Paths, Trainer};
use crate::checkpoint::{self, Best, Contents, State};
use crate::data::Dataset;
use crate::evaluate::{EvaluateOptions, evaluate};
use crate::recipe::Recipe;
use crate::run::RunFolder;
use crate::{Result, TrainError};

/// The files that grow with a run.
#[derive(Debug)]
pub(super) struct Records {
    metrics: MetricsFile,
    events: EventWriter,
    facts: RunFacts,
    /// The recipe as it is used, and what it is used on.
    recipe: String,
    /// Whether the last write failed, which is said once.
    failing: bool,
}

impl Records {
    /// Opens the files to go on after the state's step, and writes down what the run is.
    pub(super) fn open(
        folder: &RunFolder,
        recipe: &Recipe,
        paths: &Paths,
        train: &Dataset,
        valid: Option<&Dataset>,
        state: &State,
    ) -> Result<Self> {
        let mut header = format!(
            "# Written by mor {}. Going on needs the same data.\n",
            env!("CARGO_PKG_VERSION")
        );
        let parameters = recipe.model.parameter_count().total;
        let mut rows = vec![
            ("parameters".to_owned(), parameters.to_string()),
            ("seed".to_owned(), recipe.train.seed.to_string()),
            (
                "program".to_owned(),
                format!("mor {}", env!("CARGO_PKG_VERSION")),
            ),
            ("recipe".to_owned(), recipe.path().display().to_string()),
        ];
        for (name, data) in [("data", Some(train)), ("validation data", valid)] {
            let Some(data) = data else {
                continue;
            };
            let path = data.path().display();
            let hash = data.fingerprint();
            header.push_str(&format!("# {name}: {path}, tokens with SHA-256 {hash}\n"));
            rows.push((
                name.to_owned(),
                format!(
                    "{path}: {} documents, {} tokens, {} bytes",
                    data.documents(),
                    data.tokens(),
                    data.total_bytes()
                ),
            ));
            rows.push((format!("{name}, SHA-256 of its tokens"), hash.to_owned()));
        }
        if let Some(init) = &paths.init {
            header.push_str(&format!("# first weights: {}\n", init.display()));
            rows.push(("first weights".to_owned(), init.display().to_string()));
        }
        let recipe = header + "\n" + &recipe.resolved()?;
        mor_files::write(&folder.recipe(), recipe.as_bytes())?;
        let title = folder.path().file_name().unwrap_or_default();
        Ok(Self {
            metrics: MetricsFile::open(&folder.metrics(), state.step)?,
            events: EventWriter::open(&folder.events(), state.step)?,
            facts: RunFacts {
                title: title.to_string_lossy().into_owned(),
                facts: rows,
            },
            recipe,
            failing: false,
        })
    }
}

impl Trainer {
    /// Writes a step down. Training goes on where that fails.
    pub(super) fn record(&mut self, metrics: &StepMetrics, on_event: &mut dyn FnMut(Event)) {
        let Some(records) = &mut self.records else {
            return;
        };
        let written = records.metrics.write(metrics);
        let written = written.and_then(|()| records.events.write(metrics));
        records.note(written, on_event);
    }

    /// Draws the report. Training goes on where that fails.
    pub(super) fn report(&mut self, on_event: &mut dyn FnMut(Event)) {
        let Some(records) = &mut self.records else {
            return;
        };
        let page = self.folder.report();
        let written = records.events.flush();
        let written =
            written.and_then(|()| write_report(&self.folder.metrics(), &records.facts, &page));
        records.note(written, on_event);
    }

    /// Measures the validation data, if there is any.
    pub(super) fn validate(
        mut self,
        clock: &Clock,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        self.state.validated = Some(self.state.step);
        if self.valid.is_none() {
            return Ok(self);
        }
        // The average is what will be used, so it is what gets measured.
        if let Some(average) = &mut self.average {
            self.model = average.exchange(self.model);
        }
        let (measured, samples) = self.measure(on_event);
        if let Some(average) = &mut self.average {
            self.model = average.exchange(self.model);
        }
        let (report, samples) = (measured?, samples?);
        self.state.seconds = clock.seconds();
        let metrics = ValidationMetrics {
            step: self.state.step,
            tokens: self.state.tokens,
            seconds: self.state.seconds,
            validation: report.total.summary(),
            depths: report.total.depths,
            samples,
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
        if let Some(records) = &mut self.records {
            let written = records.metrics.write(&metrics);
            let written = written.and_then(|()| records.events.write_validation(&metrics));
            records.note(written, on_event);
        }
        on_event(Event::Validation {
            metrics: &metrics,
            best,
        });
        Ok(self)
    }

    fn measure(
        &self,
        on_event: &mut dyn FnMut(Event),
    ) -> (
        Result<crate::evaluate::Report>,
        Result<Vec<mor_report::metrics::Sample>>,
    ) {
        let options = EvaluateOptions::default();
        let report = match &self.valid {
            Some(valid) => evaluate(&self.model, valid, &options, &*self.ranks, |share| {
                on_event(Event::Validating(share));
            }),
            None => Ok(crate::evaluate::Report::default()),
        };
        let samples = if self.records.is_some() {
            self.samples()
        } else {
            Ok(Vec::new())
        };
        (report, samples)
    }

    /// Writes a checkpoint, then, if the last validation was the best so far, `best`, and removes old ones.
    pub(super) fn save(&self) -> Result<()> {
        let Some(records) = &self.records else {
            return Ok(());
        };
        let dir = self.folder.checkpoint(self.state.step);
        let mut optimizer = self.optimizer.tensors();
        if let Some(average) = &self.average {
            optimizer.extend(average.tensors(self.model.config()));
        }
        let contents = Contents {
            model: &self.model,
            optimizer,
            tokenizer: &self.tokenizer,
            recipe: &records.recipe,
            state: &self.state,
        };
        checkpoint::write(&dir, &contents)?;
        if self.state.best.map(|best| best.step) == Some(self.state.step) {
            mor_files::folder::link_copy(&dir, &self.folder.best())?;
        }
        self.folder.prune(self.recipe.train.keep)
    }
}

impl Records {
    /// Says that writing fails, once.
    fn note(&mut self, written: mor_report::Result<()>, on_event: &mut dyn FnMut(Event)) {
        match written {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                let error = TrainError::from(error);
                on_event(Event::Warning(&format!(
                    "{error}; training goes on without it"
                )));
            }
            Err(_) => {}
        }
    }
}
