//! Everything that happens before the first step.

use std::path::Path;

use burn::tensor::Device;
use mor_model::Model;
use mor_text::Tokenizer;
use sha2::{Digest, Sha256};

use super::{Paths, Trainer};
use crate::checkpoint::{AVERAGE_PREFIX, Checkpoint, State, recover};
use crate::data::{Dataset, Overlong};
use crate::depth::DepthPlan;
use crate::metrics::MetricsFile;
use crate::optimizer::{Optimizer, read_into};
use crate::recipe::{Recipe, TrainSettings};
use crate::run::RunFolder;
use crate::{Result, TrainError};

impl Trainer {
    /// Reads the data and builds the model, fresh or, with `resume`, from the run's last
    /// checkpoint. Nothing is written before all of that has succeeded.
    ///
    /// # Errors
    /// A [`TrainError`] that names the file at fault: the data, the tokenizer, the recipe, or a
    /// run folder that holds a run already (or none, with `resume`).
    pub fn new(mut recipe: Recipe, paths: &Paths, resume: bool, device: &Device) -> Result<Self> {
        let folder = RunFolder::new(&paths.output);
        // An existing run is claimed before it is looked at, a new one made only when all is well.
        let mut lock = None;
        if folder.path().is_dir() {
            lock = Some(folder.lock()?);
        }
        let checkpoint = find_checkpoint(&folder, resume)?;
        let tokenizer = load_tokenizer(&mut recipe, paths, checkpoint.as_ref())?;
        let settings = &recipe.train;
        let context = settings
            .context
            .unwrap_or(recipe.model.max_position_embeddings);
        let train = Dataset::read(&paths.data, &tokenizer, context, Overlong::Truncate, None)?;
        let valid = match &paths.valid {
            Some(path) => {
                let rows = settings.validate_rows;
                let context = recipe.model.max_position_embeddings;
                Some(Dataset::read(
                    path,
                    &tokenizer,
                    context,
                    Overlong::Split,
                    rows,
                )?)
            }
            None => None,
        };

        let mut optimizer = Optimizer::new(&recipe.model, &settings.optimizer);
        let fingerprint = fingerprint(&train);
        let device = device.clone().autodiff();
        let (model, average, mut state) = match &checkpoint {
            Some(checkpoint) => {
                check_same_run(&recipe, &fingerprint, checkpoint)?;
                let model = Model::from_weights(&recipe.model, &checkpoint.weights, &device)?;
                optimizer.restore(&checkpoint.optimizer)?;
                let average = restore_average(&recipe, checkpoint)?;
                (model, average, checkpoint.state.clone())
            }
            None => {
                let model = Model::new(&recipe.model, &device, settings.seed)?;
                let average = settings.ema.map(|_| values_of(&model));
                (model, average, State::new(settings.clone(), fingerprint))
            }
        };
        state.settings = settings.clone();
        let lock = match lock {
            Some(lock) => lock,
            None => folder.lock()?,
        };
        let metrics = MetricsFile::open(&folder.metrics(), state.step)?;
        let mut trainer = Self {
            depths: DepthPlan::new(settings.depth.clone()),
            recipe,
            folder,
            tokenizer,
            train,
            valid,
            model,
            optimizer,
            average,
            state,
            metrics,
            batches: Vec::new(),
            _lock: lock,
        };
        trainer.batches = trainer.epoch(trainer.state.epoch);
        Ok(trainer)
    }
}

/// The checkpoint to resume from; none for a fresh run, which needs a folder without one.
fn find_checkpoint(folder: &RunFolder, resume: bool) -> Result<Option<Checkpoint>> {
    let candidates = [folder.last(), folder.best()];
    if folder.path().exists() {
        for dir in &candidates {
            recover(dir)?;
        }
    }
    let found = candidates.iter().find(|dir| dir.is_dir());
    let fail = |problem: &str| {
        Err(TrainError::Run {
            path: folder.path().to_owned(),
            problem: problem.to_owned(),
        })
    };
    match (found, resume) {
        (Some(_), false) => {
            fail("already holds a run; add --resume to go on, or name another --output")
        }
        (None, true) => fail("holds no checkpoint to resume from; leave out --resume to start"),
        (None, false) => Ok(None),
        (Some(dir), true) => Checkpoint::open(dir).map(Some),
    }
}

/// The tokenizer of the checkpoint, the command line or the recipe, in this order. A small one makes the model's
/// vocabulary smaller, unless the recipe says how large that is.
fn load_tokenizer(
    recipe: &mut Recipe,
    paths: &Paths,
    checkpoint: Option<&Checkpoint>,
) -> Result<Tokenizer> {
    let named = paths.tokenizer.as_deref().or(recipe.tokenizer.as_deref());
    let Some(dir) = checkpoint.map(|c| c.path.as_path()).or(named) else {
        return Err(TrainError::Value {
            path: recipe.path.clone(),
            key: "tokenizer".to_owned(),
            problem: "is missing; name a folder with tokenizer.json here or with --tokenizer"
                .to_owned(),
        });
    };
    let tokenizer = Tokenizer::from_dir(dir)?;
    if recipe.vocabulary_of_tokenizer {
        recipe.model.vocab_size = tokenizer.vocab_size().min(recipe.model.vocab_size);
    }
    let (rows, pad) = (recipe.model.vocab_size, recipe.model.pad_token_id);
    check_tokenizer(&tokenizer, dir, rows, pad)?;
    Ok(tokenizer)
}

/// Checks that a tokenizer's ids are those of a model's embedding, and that both mean the same token by padding.
///
/// # Errors
/// [`TrainError::Tokenizer`].
pub(crate) fn check_tokenizer(
    tokenizer: &Tokenizer,
    dir: &Path,
    vocab_size: usize,
    pad_token_id: u32,
) -> Result<()> {
    let fail = |problem: String| {
        Err(TrainError::Tokenizer {
            path: dir.to_owned(),
            problem,
        })
    };
    if !tokenizer.fits(vocab_size) {
        return fail(format!(
            "the tokenizer has {} tokens, the model's vocab_size is {vocab_size}; \
             use the tokenizer that belongs to the model",
            tokenizer.vocab_size()
        ));
    }
    match tokenizer.pad_id() {
        Some(pad) if pad != pad_token_id => fail(format!(
            "the tokenizer pads with id {pad}, the model's pad_token_id is {pad_token_id}; \
             use the tokenizer that belongs to the model"
        )),
        _ => Ok(()),
    }
}

/// A resumed run repeats what the uninterrupted one would have done, so nothing that decides over
/// that may have changed. The budget, the intervals and the precision of products (which another
/// machine may not have) may.
fn check_same_run(recipe: &Recipe, data: &str, checkpoint: &Checkpoint) -> Result<()> {
    let fail = |problem: String| {
        Err(TrainError::Checkpoint {
            path: checkpoint.path.clone(),
            problem: format!("{problem}; start another run with another --output"),
        })
    };
    if checkpoint.config != recipe.model {
        return fail(format!(
            "belongs to another model than {} describes",
            recipe.path.display()
        ));
    }
    let free = |settings: &TrainSettings| TrainSettings {
        steps: None,
        epochs: None,
        minutes: None,
        validate_every: 1,
        validate_rows: None,
        checkpoint_minutes: 1.0,
        matmul: crate::recipe::Matmul::F32,
        ..settings.clone()
    };
    if free(&checkpoint.state.settings) != free(&recipe.train) {
        return fail(format!(
            "was made with other [train] settings than {} has now",
            recipe.path.display()
        ));
    }
    if checkpoint.state.data != data {
        return fail("was trained on other data than --data names".to_owned());
    }
    Ok(())
}

fn restore_average(recipe: &Recipe, checkpoint: &Checkpoint) -> Result<Option<Vec<Vec<f32>>>> {
    if recipe.train.ema.is_none() {
        return Ok(None);
    }
    let specs = recipe.model.tensors();
    let mut average = Vec::with_capacity(specs.len());
    for spec in specs {
        let mut values = vec![0.0; spec.shape.iter().product()];
        let name = format!("{AVERAGE_PREFIX}{}", spec.name);
        read_into(&checkpoint.optimizer, &name, &mut values)?;
        average.push(values);
    }
    Ok(Some(average))
}

fn values_of(model: &Model) -> Vec<Vec<f32>> {
    let tensors = model.to_tensors().into_iter();
    tensors.map(|(_, _, values)| values).collect()
}

/// SHA-256 over all sequences and their borders.
fn fingerprint(data: &Dataset) -> String {
    let mut hasher = Sha256::new();
    for row in 0..data.len() {
        let ids = data.ids(row);
        hasher.update((ids.len() as u64).to_le_bytes());
        for id in ids {
            hasher.update(id.to_le_bytes());
        }
    }
    crate::checkpoint::hex(&hasher.finalize())
}
