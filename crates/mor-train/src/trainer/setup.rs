//! Everything that happens before the first step.

use std::path::Path;

use burn::tensor::Device;
use mor_config::{ModelConfig, WEIGHTS_FILE, Weights};
use mor_model::{DeviceError, Model};
use mor_text::Tokenizer;

use super::average::Average;
use super::resume::{
    begin_best_anew, check_same_run, find_checkpoint, restore_best, set_aside, set_best_aside,
    values_of,
};
use super::save::Records;
use super::{Paths, Trainer};
use crate::checkpoint::{Checkpoint, State};
use crate::data::{Dataset, Order, Reading};
use crate::depth::DepthPlan;
use crate::evaluate::measured;
use crate::optimizer::Optimizer;
use crate::ranks::{Alone, Ranks};
use crate::recipe::{Matmul, Recipe, differences};
use crate::run::RunFolder;
use crate::{Result, TrainError};

impl Trainer {
    /// Reads the data and builds the model, fresh or, with `resume`, from the run's newest
    /// whole checkpoint, if it has one yet. Of a run nothing but tokenized data is written before all of that has succeeded.
    ///
    /// # Errors
    /// A [`TrainError`] that names the file at fault: the data, the tokenizer, the recipe, or a
    /// run folder that holds a run already, or, with `resume`, another run or damaged checkpoints only.
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
        let mut found = find_checkpoint(&folder, resume)?;
        let checkpoint = found.checkpoint.as_ref();
        let tokenizer = load_tokenizer(&mut recipe, paths, checkpoint)?;
        let made = !folder.path().is_dir();
        let data = open_data(&recipe, paths, &folder, &tokenizer, &*ranks);
        let (train, valid) = data.inspect_err(|_| {
            // Nothing is left of a run that cannot start; but a link to where it should be was there before.
            if made && ranks.is_first() && !folder.path().is_symlink() {
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
        let earlier_best = begin_best_anew(&mut state, valid.as_ref());
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
            if let Some(best) = earlier_best {
                let warning = set_best_aside(&folder, best)?;
                found.warnings.push(warning);
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
    let learned = Reading {
        context: settings
            .context
            .unwrap_or(recipe.model.max_position_embeddings),
        overlong: settings.overlong,
        learn: settings.learn,
        weights: true,
        limit: None,
    };
    let measured = measured(&recipe.model, settings.validate_rows);
    let open = || -> Result<_> {
        let open = |path: &Path, name: &str, reading| {
            Dataset::open(path, tokenizer, Some(&folder.tokens(name)), reading)
        };
        // Beside each other, since checking a large file takes a while.
        let (train, valid) = rayon::join(
            || open(&paths.data, "train", learned),
            || match &paths.valid {
                Some(path) => open(path, "valid", measured).map(Some),
                None => Ok(None),
            },
        );
        Ok((train?, valid?))
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
                "is another model than {} describes: {}; {}",
                recipe.path().display(),
                differences("model", ["is", "there"], &config, &recipe.model),
                match recipe.vocabulary_of_tokenizer && config.vocab_size != recipe.model.vocab_size
                {
                    true => {
                        "the vocabulary is the tokenizer's unless model.vocab_size is set: train with the tokenizer \
                         that belongs to these weights"
                    }
                    false => "write its config.json into [model]",
                }
            ),
        });
    }
    let weights = Weights::open(&dir.join(WEIGHTS_FILE))?;
    Ok(Model::from_weights(&config, &weights, device)?)
}

/// The tokenizer of the checkpoint, the command line or the recipe, in this order. Its vocabulary is the model's, unless
/// the recipe says how large that is.
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
    if checkpoint.is_some() {
        check_same_tokenizer(recipe, paths, &tokenizer)?;
    }
    if recipe.vocabulary_of_tokenizer {
        recipe.model.vocab_size = tokenizer.vocab_size();
        recipe.model.validate(recipe.path())?;
    }
    let (rows, pad) = (recipe.model.vocab_size, recipe.model.pad_token_id);
    let advice = format!(
        "leave model.vocab_size out of the recipe, or --set model.vocab_size={}",
        tokenizer.vocab_size()
    );
    check_tokenizer(&tokenizer, dir, rows, pad, &advice)?;
    Ok(tokenizer)
}

/// A run that goes on keeps its tokenizer, so another one may not be asked for. One that the recipe names need not be
/// there any more.
fn check_same_tokenizer(recipe: &Recipe, paths: &Paths, own: &Tokenizer) -> Result<()> {
    let (dir, named) = match (&paths.tokenizer, &recipe.tokenizer) {
        (Some(dir), _) => (dir, Tokenizer::from_dir(dir)?),
        (None, Some(dir)) => match Tokenizer::from_dir(dir) {
            Ok(tokenizer) => (dir, tokenizer),
            Err(_) => return Ok(()),
        },
        (None, None) => return Ok(()),
    };
    if named.fingerprint() == own.fingerprint() {
        return Ok(());
    }
    Err(TrainError::Tokenizer {
        path: dir.clone(),
        problem: "is another tokenizer than the run began with, and a run keeps its own; leave out --tokenizer, or start \
                  another run with another --output"
            .to_owned(),
    })
}

/// Checks that a tokenizer's ids are those of a model's embedding, and that both mean the same token by padding.
/// `advice` says what to do about a vocabulary of another size.
///
/// # Errors
/// [`TrainError::Tokenizer`].
pub(crate) fn check_tokenizer(
    tokenizer: &Tokenizer,
    dir: &Path,
    vocab_size: usize,
    pad_token_id: u32,
    advice: &str,
) -> Result<()> {
    let fail = |problem: String| {
        Err(TrainError::Tokenizer {
            path: dir.to_owned(),
            problem,
        })
    };
    if !tokenizer.fits(vocab_size) {
        return fail(format!(
            "the tokenizer has {} tokens, the model's vocab_size is {vocab_size}; {advice}",
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
