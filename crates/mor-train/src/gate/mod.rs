//! The second stage of a recursive model's training: gates for weights that stay as they are.
//!
//! A gate learns what further loops would change at a position: the root of the divergence of the prediction after all
//! loops from the one after this loop (Kullback & Leibler 1951). That needs no target, unlike the gain in loss, which is
//! mostly noise for a single token. Gates are linear, so the least squared error has a solution of its own, and nothing is
//! descended. Thresholds for every budget are then measured on other text.

mod calibrate;
pub(crate) mod ridge;
mod samples;

use std::path::Path;

use burn::module::Module;
use mor_config::{
    Architecture, Budget, CONFIG_FILE, ModelConfig, Precision, RouterKind, WEIGHTS_FILE, Weights,
    save_tensors_with, tensors_to_bytes,
};
use mor_model::Model;

use crate::data::Dataset;
use crate::{Result, TrainError};
use ridge::{Line, Ridge};

/// Of the documents that are drawn.
const SEED: u64 = 1;

/// How gates are fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct GateSettings {
    /// Tokens to fit on.
    pub tokens: usize,
    /// Tokens to calibrate on.
    pub calibration_tokens: usize,
    /// Price of squared weights.
    pub ridge: f64,
    /// Mean loops where nothing else is asked for; by default six tenths of those beyond the first.
    pub budget: Option<Budget>,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            tokens: 40_000,
            calibration_tokens: 20_000,
            ridge: 1e-3,
            budget: None,
        }
    }
}

/// Gates that were fitted and calibrated.
#[derive(Clone, Debug)]
pub struct FittedGates {
    /// The configuration of the model with them.
    pub config: ModelConfig,
    /// Their tensors, name, shape and values, as [`mor_config::save_tensors`] takes them.
    pub tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    /// For each gate, the share of the label's variance that it explains.
    pub explained: Vec<f64>,
    /// Tokens that were fitted and calibrated on.
    pub tokens: [usize; 2],
}

/// Fits gates to `model` on `data`, and calibrates them on `other`, which should be neither trained nor measured on.
/// `progress` hears what is done, in words.
///
/// # Errors
/// [`TrainError::Depth`] for a model of another family, or one that can loop but once; [`TrainError::Model`]; or
/// [`TrainError::Data`] when there is too little text.
pub fn fit(
    model: &Model,
    data: &Dataset,
    other: &Dataset,
    settings: &GateSettings,
    mut progress: impl FnMut(&str),
) -> Result<FittedGates> {
    let model = model.valid();
    let mut config = model.config().clone();
    let most = config.routing.max_steps;
    if config.architecture != Architecture::Recursive || most < 2 {
        return Err(TrainError::Depth(format!(
            "gates are for models of the family {} that can loop more than once",
            Architecture::Recursive.as_str()
        )));
    }
    let dim = config.hidden_size;
    let mut sums = vec![Ridge::new(dim + 1); most - 1];
    let mut fitted = 0;
    samples::visit(&model, data, settings.tokens, |sample| {
        fitted += 1;
        for ((sum, features), label) in sums.iter_mut().zip(&sample.features).zip(&sample.changes) {
            sum.add(features, *label);
        }
    })?;
    progress("gates are fitted");
    let lines: Option<Vec<Line>> = sums.iter().map(|sum| sum.solve(settings.ridge)).collect();
    let lines = lines
        .filter(|_| fitted > dim)
        .ok_or_else(|| TrainError::Data {
            path: data.path().to_owned(),
            problem: format!("has {fitted} tokens to fit gates to, too few for {dim} numbers each"),
        })?;
    // One scale for all gates, so that one threshold means the same to each.
    let mut scores = Vec::new();
    samples::visit(&model, other, settings.calibration_tokens, |sample| {
        let lines = lines.iter().zip(&sample.features);
        scores.extend(lines.map(|(line, features)| line.at(features)));
    })?;
    let calibrated = scores.len() / (most - 1);
    if calibrated < 100 {
        return Err(TrainError::Data {
            path: other.path().to_owned(),
            problem: format!("has {calibrated} tokens to calibrate gates on, too few"),
        });
    }
    let count = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / count;
    let spread = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / count;
    let spread = spread.sqrt().max(1e-9);
    let mut tensors = Vec::new();
    for (gate, line) in (1..).zip(&lines) {
        let weights = line.weights.iter().map(|w| (w / spread) as f32).collect();
        let bias = vec![((line.bias - mean) / spread) as f32];
        tensors.push((format!("gates.{gate}.weight"), vec![1, dim + 1], weights));
        tensors.push((format!("gates.{gate}.bias"), vec![1], bias));
    }
    config.routing.kind = RouterKind::Adaptive;
    let tenths = ((most - 1) as f64 * 6.0).round() as usize;
    config.routing.budget = Some(settings.budget.unwrap_or(Budget::beyond_one(tenths)));
    config.routing.thresholds = vec![0.5; config.routing.budgets()];
    config.routing.thresholds = calibrate::thresholds(
        &with_gates(&model, &config, &tensors)?,
        other,
        settings.calibration_tokens,
    )?;
    progress("budgets are calibrated");
    config.validate(Path::new(CONFIG_FILE))?;
    Ok(FittedGates {
        config,
        tensors,
        explained: lines.iter().map(|line| line.explained).collect(),
        tokens: [fitted, calibrated],
    })
}

impl FittedGates {
    /// The precision in which [`Self::write`] stores what that of `model` is.
    ///
    /// # Errors
    /// [`TrainError::Config`] when the weights cannot be read.
    pub fn precision(&self, model: &Path) -> Result<Precision> {
        Ok(Precision::of(&Weights::open(&model.join(WEIGHTS_FILE))?))
    }

    /// Writes `config.json` and `model.safetensors` of the model folder `model` with these gates into `folder`.
    ///
    /// # Errors
    /// [`TrainError::Config`] when a file cannot be read or written.
    pub fn write(&self, model: &Path, folder: &Path) -> Result<()> {
        let weights = Weights::open(&model.join(WEIGHTS_FILE))?;
        let specs = self.config.tensors().into_iter();
        let shapes: Vec<_> = specs.map(|spec| (spec.name, spec.shape)).collect();
        let target = folder.join(WEIGHTS_FILE);
        save_tensors_with::<TrainError>(&target, &shapes, Precision::of(&weights), |index| {
            let name = &shapes[index].0;
            let own = self.tensors.iter().find(|(own, ..)| own == name);
            Ok(match own {
                Some((.., values)) => values.as_slice().into(),
                None => weights.to_f32(name)?.into(),
            })
        })?;
        let config = self.config.to_json();
        mor_files::write(&folder.join(CONFIG_FILE), config.as_bytes())?;
        Ok(())
    }
}

/// The model with gates.
fn with_gates(
    model: &Model,
    config: &ModelConfig,
    gates: &[(String, Vec<usize>, Vec<f32>)],
) -> Result<Model> {
    let mut tensors = model.to_tensors();
    tensors.retain(|(name, ..)| !name.starts_with("gates."));
    tensors.extend_from_slice(gates);
    let device = crate::evaluate::device_of(model);
    let origin = Path::new(WEIGHTS_FILE);
    let bytes = tensors_to_bytes(origin, &tensors, Precision::F32)?;
    let weights = Weights::from_bytes(bytes, origin)?;
    Ok(Model::from_weights(config, &weights, &device)?)
}
