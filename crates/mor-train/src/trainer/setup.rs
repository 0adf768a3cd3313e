//! Everything that happens before the first step.

use std::path::Path;

use burn::tensor::Device;
use mor_config::{ModelConfig, WEIGHTS_FILE, Weights};
use mor_model::{DeviceError, Model};
use mor_text::Tokenizer;

use super::average::Average;
use super::resume::{check_same_run, find_checkpoint, restore_best, set_aside, values_of};
use super::save::Records;
use super::{Paths, Trainer};
use crate::checkpoint::{Checkpoint, State};
use crate::data::{Dataset, Order, Overlong};
use crate::depth::DepthPlan;
use crate::optimizer::Optimizer;
use crate::ranks::{Alone, Ranks};
use crate::recipe::{Matmul, Recipe};
use crate::run::RunFolder;
use crate::{Result, TrainError};

impl Trainer {
    /// Reads the data and builds the model, fresh or, with `resume`, from the run's newest
    /// whole checkpoint. Of a run nothing but tokenized data is written before all of that has succeeded.
    ///
    /// # Errors
    /// A [`TrainError`] that names the file at fault: the data, the tokenizer, the recipe, or a
    /// run folder that holds a run already (or none, with `resume`).
    pub fn new(recipe: Recipe, paths: &Paths, resume: bool, device: &Device) -> Result<Self> {
        Self::with_ranks(recipe, paths, resume, device, Box::new(Alone))
    }

    /// As [`Self::new`] for one of several processes that train together. The first one writes the files.
    ///
    /// # Errors
    /// As [`Self::new`], and [`TrainError::Ranks`].
    pub fn with_ranks(
        mut recipe: Recipe,
        paths: &Paths,
        resume: bool,
        device: &Device,
        ranks: Box<dyn Ranks>,
    ) -> Result<Self> {
        let on_gpu = !mor_model::ops::is_cpu(device);
        let fallback = check_precision(recipe.train.matmul, on_gpu, device)?;
        let folder = RunFolder::new(&paths.output);
        // An existing run is claimed before it is looked at, a new one made only when all is well.
        let mut lock = None;
        if ranks.is_first() && folder.path().is_dir() {
            lock = Some(folder.lock()?);
            folder.recover()?;
        }
        ranks.wait()?;
        let found = find_checkpoint(&folder, resume)?;
        let checkpoint = found.checkpoint.as_ref();
        let tokenizer = load_tokenizer(&mut recipe, paths, checkpoint)?;
        let made = !folder.path().is_dir();
        let data = open_data(&recipe, paths, &folder, &tokenizer, &*ranks);
        let (train, valid) = data.inspect_err(|_| {
            // Nothing is left of a run that cannot start.
            if made && ranks.is_first() {
                let _ = std::fs::remove_dir_all(folder.path());
            }
        })?;

        let settings = &recipe.train;
        let mut optimizer = Optimizer::new(&recipe.model, &settings.optimizer);
        let gpu = on_gpu.then(|| device.clone());
        let device = device.clone().autodiff();
        let (model, average, mut state) = match checkpoint {
            Some(checkpoint) => {
                check_same_run(&recipe, train.fingerprint(), checkpoint)?;
                let model = Model::from_weights(&recipe.model, &checkpoint.weights, &device)?;
                optimizer.restore(&checkpoint.optimizer)?;
                let average = settings
                    .ema
                    .map(|decay| Average::restore(decay, &recipe.model, checkpoint, gpu.as_ref()));
                (model, average.transpose()?, checkpoint.state.clone())
            }
            None => {
                let model = match &paths.init {
                    Some(dir) => initial_model(&recipe, dir, &device)?,
                    None => Model::new(&recipe.model, &device, settings.seed)?,
                };
                let average = settings
                    .ema
                    .map(|decay| Average::new(decay, values_of(&model), gpu.as_ref()));
                let data = train.fingerprint().to_owned();
                (model, average, State::new(settings.clone(), data))
            }
        };
        if on_gpu && ranks.size() == 1 {
            optimizer = optimizer.on_device(&device.clone().inner());
        }
        state.settings = settings.clone();
        let mut records = None;
        if ranks.is_first() {
            lock = match lock {
                Some(lock) => Some(lock),
                None => Some(folder.lock()?),
            };
            set_aside(&found.damaged);
            if let Some(checkpoint) = checkpoint {
                restore_best(&folder, checkpoint)?;
            }
            records = Some(Records::open(
                &folder,
                &recipe,
                paths,
                &train,
                valid.as_ref(),
                &state,
            )?);
        }
        let order = Order::new(&train, settings.batch_size(), settings.seed);
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
            order,
            batches: Vec::new(),
            records,
            ranks,
            on_gpu,
            unsaved: false,
            warnings: found.warnings.into_iter().chain(fallback).collect(),
            _lock: lock,
        };
        trainer.batches = trainer.pool();
        Ok(trainer)
    }
}

/// Whether a device has a precision; if there is only a better one, a warning that says so.
fn check_precision(matmul: Matmul, on_gpu: bool, device: &Device) -> Result<Option<String>> {
    match matmul {
        Matmul::F16 if on_gpu && !mor_model::supports_half(device) => Err(DeviceError::Unusable(
            "it has no f16 (`shader-f16`), which train.matmul = \"f16\" needs; \
                 use --set train.matmul=f32"
                .to_owned(),
        )
        .into()),
        Matmul::Bf16 if on_gpu => Ok(Some(
            "train.matmul = \"bf16\" is for CPUs; on the GPU this run computes in f32".to_owned(),
        )),
        _ => Ok(None),
    }
}

/// Opens training and validation data, tokenizing them first where need be, which the first process does for all.
fn open_data(
    recipe: &Recipe,
    paths: &Paths,
    folder: &RunFolder,
    tokenizer: &Tokenizer,
    ranks: &dyn Ranks,
) -> Result<(Dataset, Option<Dataset>)> {
    let settings = &recipe.train;
    let longest = recipe.model.max_position_embeddings;
    let open = || -> Result<_> {
        let context = settings.context.unwrap_or(longest);
        let cache = folder.tokens("train");
        let train = Dataset::open(
            &paths.data,
            tokenizer,
            Some(&cache),
            context,
            settings.overlong,
            None,
        )?;
        let Some(path) = &paths.valid else {
            return Ok((train, None));
        };
        let cache = folder.tokens("valid");
        let rows = settings.validate_rows;
        let valid = Dataset::open(
            path,
            tokenizer,
            Some(&cache),
            longest,
            Overlong::Split,
            rows,
        )?;
        Ok((train, Some(valid)))
    };
    if ranks.is_first() {
        let data = open()?;
        ranks.wait()?;
        Ok(data)
    } else {
        ranks.wait()?;
        open()
    }
}

/// A fresh run's model with the weights of a folder.
fn initial_model(recipe: &Recipe, dir: &Path, device: &Device) -> Result<Model> {
    let config = ModelConfig::from_dir(dir)?;
    if config != recipe.model {
        return Err(TrainError::Run {
            path: dir.to_owned(),
            problem: format!(
                "is another model than {} describes; write its config.json into [model]",
                recipe.path().display()
            ),
        });
    }
    let weights = Weights::open(&dir.join(WEIGHTS_FILE))?;
    Ok(Model::from_weights(&config, &weights, device)?)
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
        return Err(recipe.error(
            "tokenizer",
            "is missing; name a folder with tokenizer.json here or with --tokenizer",
        ));
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
