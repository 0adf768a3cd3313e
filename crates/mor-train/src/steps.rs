//! Whole training steps on made-up tokens: what `mor bench train` and `mor selftest` time, and what the latter compares
//! between devices.

use burn::tensor::{Tensor, TensorData};
use mor_config::{Depth, ModelConfig};
use mor_kernels::MatmulPrecision;
use mor_model::{ChosenDevice, DeviceError, ForwardOptions, Losses, Model, RouterLoss};

use crate::Result;
use crate::optimizer::{Gradients, Optimizer, clip_scale};
use crate::recipe::{Matmul, OptimizerSettings};

/// First factor on the loss of steps in f16.
const LOSS_SCALE: f64 = 1024.0;

/// Which tokens a model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeUp {
    /// Noise all over the vocabulary: nothing to learn, and the work of any text.
    Noise,
    /// Each of the first so many tokens has one successor, which a few steps teach.
    Chains(usize),
}

/// What a step is made of.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings {
    /// Sequences of a batch.
    pub batch: usize,
    /// Tokens of a sequence.
    pub seq: usize,
    /// Depth of every layer, or of the shared block.
    pub depth: Depth,
    /// Precision of products; on a GPU `f16` is that of activations too.
    pub matmul: Matmul,
    /// Which optimizer.
    pub optimizer: OptimizerSettings,
    /// Its learning rate.
    pub learning_rate: f64,
    /// What is read.
    pub tokens: MadeUp,
}

/// A model in training, with random weights that are the same every time.
#[derive(Debug)]
pub struct Steps {
    model: Model,
    optimizer: Optimizer,
    chosen: ChosenDevice,
    settings: StepSettings,
    loss_scale: f64,
    done: usize,
}

impl Steps {
    /// A fresh model on a device.
    ///
    /// # Errors
    /// [`crate::TrainError::Model`] when the configuration is invalid.
    pub fn new(
        config: &ModelConfig,
        chosen: &ChosenDevice,
        settings: StepSettings,
    ) -> Result<Self> {
        let device = chosen.device.clone().autodiff();
        let model = Model::new(config, &device, 1)?;
        let mut optimizer = Optimizer::new(config, &settings.optimizer);
        if chosen.is_gpu {
            optimizer = optimizer.on_device(&chosen.device);
        }
        Ok(Self {
            model,
            optimizer,
            chosen: chosen.clone(),
            loss_scale: match settings.matmul {
                Matmul::F16 => LOSS_SCALE,
                Matmul::F32 | Matmul::Bf16 => 1.0,
            },
            settings,
            done: 0,
        })
    }

    /// Forward, backward, clipping and the optimizer's step, and waits until a GPU has done all of it. Gives the mean loss
    /// before the step. A step whose gradients are not finite changes no
    /// parameter; in f16 it halves the factor on the next loss.
    ///
    /// # Errors
    /// As [`Model::forward`], or the device's.
    pub fn step(mut self) -> Result<(Self, f64)> {
        let StepSettings {
            batch, seq, depth, ..
        } = self.settings;
        let device = self.chosen.device.clone().autodiff();
        let (gpu, f16) = (self.chosen.is_gpu, self.settings.matmul == Matmul::F16);
        let matmul: MatmulPrecision = match gpu {
            true => MatmulPrecision::F32,
            false => self.settings.matmul.into(),
        };
        let options = ForwardOptions {
            depth,
            training: true,
            half: gpu && f16,
            matmul,
            ..ForwardOptions::default()
        };
        let count = batch * seq;
        let ids = ids(&self.settings, self.model.config().vocab_size, self.done);
        let inputs = TensorData::new(ids[..count].to_vec(), [batch, seq]);
        let output = self
            .model
            .forward(Tensor::from_data(inputs, &device), &options)?;
        let Losses {
            total, language, ..
        } = self
            .model
            .objective(&output, &ids[1..=count], -1, &RouterLoss::default())?;
        drop(output);
        let total = match self.loss_scale == 1.0 {
            true => total,
            false => total * self.loss_scale as f32,
        };
        let language = language.without_autodiff();
        let gradients = Gradients::take(&self.model, &mut total.backward(), gpu);
        // Nothing may hold a parameter that is to be changed in place.
        drop(total);
        let (norm, read) = gradients.norm_and(vec![language]);
        let norm = norm / self.loss_scale;
        match norm.is_finite() {
            true => {
                let scale = clip_scale(norm, 1.0) / self.loss_scale;
                let rate = self.settings.learning_rate;
                self.model = self
                    .optimizer
                    .step(self.model, gradients, rate, scale, matmul);
            }
            false => {
                gradients.recycle();
                self.loss_scale = (self.loss_scale / 2.0).max(1.0);
            }
        }
        if gpu {
            // What is queued counts when it is done.
            let synced = self.chosen.device.sync();
            synced.map_err(|error| DeviceError::Unusable(error.to_string()))?;
        }
        self.done += 1;
        let loss = read.first().copied().unwrap_or(f32::NAN);
        Ok((self, f64::from(loss)))
    }

    /// Tokens of a step.
    pub fn tokens(&self) -> usize {
        self.settings.batch * self.settings.seq
    }
}

/// Random tokens of a step, one more than a batch holds.
fn ids(settings: &StepSettings, vocab: usize, step: usize) -> Vec<i64> {
    let count = settings.batch * settings.seq + 1;
    let mix = |at: usize| (at + step * count).wrapping_mul(2_654_435_761) >> 7;
    // Id 0 may be a pad, and so may the last.
    let most = vocab.saturating_sub(2).max(1);
    match settings.tokens {
        MadeUp::Noise => (0..count).map(|at| 1 + (mix(at) % most) as i64).collect(),
        MadeUp::Chains(tokens) => {
            let tokens = tokens.clamp(1, most);
            let mut last = 0;
            let next = |at: usize| {
                last = match at.is_multiple_of(settings.seq.max(1)) {
                    true => mix(at) % tokens,
                    false => (last * 5 + 3) % tokens,
                };
                1 + last as i64
            };
            (0..count).map(next).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::AdamWSettings;
    use mor_config::Preset;
    use mor_model::{DeviceChoice, open_device};

    fn settings(tokens: MadeUp) -> StepSettings {
        StepSettings {
            batch: 4,
            seq: 16,
            depth: Depth::Configured,
            matmul: Matmul::F32,
            optimizer: OptimizerSettings::AdamW(AdamWSettings {
                betas: [0.9, 0.99],
                epsilon: 1e-8,
                weight_decay: 0.01,
            }),
            learning_rate: 3e-3,
            tokens,
        }
    }

    #[test]
    fn chains_are_learned_and_every_run_is_the_same() {
        let mut config = Preset::Technical10m.config();
        config.vocab_size = 64;
        config.hidden_size = 32;
        config.num_hidden_layers = 1;
        config.num_attention_heads = 2;
        config.intermediate_size = 64;
        let cpu = open_device(DeviceChoice::Cpu).expect("always there");
        let run = || {
            let settings = settings(MadeUp::Chains(16));
            let mut steps = Steps::new(&config, &cpu, settings).expect("valid");
            let mut losses = Vec::new();
            for _ in 0..30 {
                let (next, loss) = steps.step().expect("a step");
                steps = next;
                losses.push(loss);
            }
            losses
        };
        let losses = run();
        println!("{losses:?}");
        assert!(losses[29] < losses[0] - 1.0, "{losses:?}");
        assert_eq!(losses, run());
    }

    #[test]
    fn no_token_is_a_pad() {
        for tokens in [MadeUp::Noise, MadeUp::Chains(16), MadeUp::Chains(1000)] {
            let settings = settings(tokens);
            for step in 0..3 {
                let ids = ids(&settings, 64, step);
                assert_eq!(ids.len(), 65);
                assert!(ids.iter().all(|id| (1..63).contains(id)), "{ids:?}");
            }
        }
    }
}
