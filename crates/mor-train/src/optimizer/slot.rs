//! The optimizer's state of one parameter, and what a step does to it.

use std::borrow::Cow;

use mor_config::{Component, TensorSpec, Weights};
use mor_kernels::{AdamW, MatmulPrecision, adamw_step, muon_orthogonalize};

use super::read_into;
use crate::Result;
use crate::checkpoint::Tensors;
use crate::recipe::OptimizerSettings;

/// Root mean square of a Muon update, that of a typical AdamW step (Liu et al. 2025, "Muon is
/// scalable for LLM training"): the orthogonalised matrix is scaled by `0.2 · √max(out, in)`.
const MUON_RMS: f64 = 0.2;

/// One parameter's state.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) shape: Vec<usize>,
    /// Learning rate relative to the step's.
    pub(super) rate: f64,
    pub(super) weight_decay: f64,
    pub(super) state: State,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    AdamW {
        betas: [f64; 2],
        epsilon: f64,
        /// Steps this parameter took part in; the moments' bias depends on it.
        steps: u64,
        first: Vec<f32>,
        second: Vec<f32>,
    },
    Muon {
        decay: f64,
        momentum: Vec<f32>,
    },
}

/// What a step does with a parameter and its prepared gradient.
pub(super) enum Step {
    AdamW(AdamW),
    /// `keep` times the parameter, less `size` times the gradient.
    Muon {
        size: f64,
        keep: f64,
    },
}

impl State {
    /// The moments: what is as long as the parameter.
    pub(super) fn vectors(&mut self) -> Vec<&mut Vec<f32>> {
        match self {
            Self::AdamW { first, second, .. } => vec![first, second],
            Self::Muon { momentum, .. } => vec![momentum],
        }
    }
}

impl Slot {
    pub(super) fn new(spec: &TensorSpec, settings: &OptimizerSettings) -> Self {
        let len = spec.shape.iter().product();
        let adamw = |betas, epsilon| State::AdamW {
            betas,
            epsilon,
            steps: 0,
            first: vec![0.0; len],
            second: vec![0.0; len],
        };
        let (rate, weight_decay, state) = match settings {
            OptimizerSettings::AdamW(settings) => (
                1.0,
                settings.weight_decay,
                adamw(settings.betas, settings.epsilon),
            ),
            OptimizerSettings::Muon(settings) if is_hidden_matrix(spec) => (
                1.0,
                settings.weight_decay,
                State::Muon {
                    decay: settings.momentum,
                    momentum: vec![0.0; len],
                },
            ),
            OptimizerSettings::Muon(settings) => {
                let rate = if spec.shape.len() == 2 {
                    settings.embedding_rate
                } else {
                    settings.vector_rate
                };
                (rate, 0.0, adamw(settings.betas, settings.epsilon))
            }
        };
        Self {
            shape: spec.shape.clone(),
            rate,
            weight_decay,
            state,
        }
    }

    /// The part of a step that needs no parameter, so that parameters can be worked on at once:
    /// Muon's momentum, and the update in place of the gradient.
    pub(super) fn prepare(&mut self, gradient: &mut Vec<f32>, scale: f32, matmul: MatmulPrecision) {
        let State::Muon { decay, momentum } = &mut self.state else {
            return;
        };
        let decay = *decay as f32;
        for (m, g) in momentum.iter_mut().zip(gradient.iter_mut()) {
            let scaled = *g * scale;
            *m += (1.0 - decay) * (scaled - *m);
            *g = scaled + decay * (*m - scaled); // Nesterov's look ahead
        }
        let mut update = vec![0.0; gradient.len()];
        muon_orthogonalize(
            matmul,
            [self.shape[0], self.shape[1]],
            gradient,
            &mut update,
        );
        *gradient = update;
    }

    /// What the next step does, which counts as taken.
    pub(super) fn next_step(&mut self, learning_rate: f64, scale: f64) -> Step {
        let learning_rate = learning_rate * self.rate;
        match &mut self.state {
            State::AdamW {
                betas,
                epsilon,
                steps,
                ..
            } => {
                *steps += 1;
                Step::AdamW(AdamW {
                    learning_rate: learning_rate as f32,
                    beta1: betas[0] as f32,
                    beta2: betas[1] as f32,
                    eps: *epsilon as f32,
                    weight_decay: self.weight_decay as f32,
                    grad_scale: scale as f32,
                    step: *steps,
                })
            }
            State::Muon { .. } => {
                let longer = self.shape.iter().copied().max().unwrap_or(1) as f64;
                Step::Muon {
                    size: learning_rate * MUON_RMS * longer.sqrt(),
                    keep: 1.0 - learning_rate * self.weight_decay,
                }
            }
        }
    }

    /// Moves the parameter along its prepared gradient.
    pub(super) fn apply(
        &mut self,
        values: &mut [f32],
        gradient: &[f32],
        learning_rate: f64,
        scale: f64,
    ) {
        let step = self.next_step(learning_rate, scale);
        match (step, &mut self.state) {
            (Step::AdamW(settings), State::AdamW { first, second, .. }) => {
                adamw_step(&settings, values, gradient, first, second);
            }
            (Step::Muon { size, keep }, _) => {
                let (size, keep) = (size as f32, keep as f32);
                for (p, u) in values.iter_mut().zip(gradient) {
                    *p = *p * keep - size * u;
                }
            }
            // A step is of the kind of its state.
            (Step::AdamW(_), State::Muon { .. }) => {}
        }
    }

    /// Numbers in the moments.
    pub(super) fn elements(&self) -> usize {
        match &self.state {
            State::AdamW { first, second, .. } => first.len() + second.len(),
            State::Muon { momentum, .. } => momentum.len(),
        }
    }

    pub(super) fn tensors(&self, name: &str) -> Tensors<'_> {
        let borrowed = |kind: &str, values| {
            let name = format!("{kind}.{name}");
            (name, self.shape.clone(), Cow::Borrowed(values))
        };
        match &self.state {
            State::AdamW {
                steps,
                first,
                second,
                ..
            } => vec![
                borrowed("adamw.first", first.as_slice()),
                borrowed("adamw.second", second.as_slice()),
                (
                    steps_name(name),
                    vec![2],
                    Cow::Owned(split(*steps).to_vec()),
                ),
            ],
            State::Muon { momentum, .. } => vec![borrowed("muon.momentum", momentum.as_slice())],
        }
    }

    pub(super) fn restore(&mut self, name: &str, weights: &Weights) -> Result<()> {
        match &mut self.state {
            State::AdamW {
                steps,
                first,
                second,
                ..
            } => {
                read_into(weights, &format!("adamw.first.{name}"), first)?;
                read_into(weights, &format!("adamw.second.{name}"), second)?;
                let mut halves = [0.0; 2];
                read_into(weights, &steps_name(name), &mut halves)?;
                *steps = join(halves);
            }
            State::Muon { momentum, .. } => {
                read_into(weights, &format!("muon.momentum.{name}"), momentum)?;
            }
        }
        Ok(())
    }
}

/// Whether a parameter is a matrix between hidden activations, which is what Muon is for.
fn is_hidden_matrix(spec: &TensorSpec) -> bool {
    let inside = matches!(
        spec.component,
        Component::StepProjections
            | Component::Attention
            | Component::FeedForward
            | Component::RecursionBlock
    );
    inside && spec.shape.len() == 2
}

fn steps_name(name: &str) -> String {
    format!("adamw.steps.{name}")
}

/// Checkpoints hold `f32` only, which counts to 2²⁴: a step count takes two of them.
const HALF: u64 = 1 << 20;

fn split(steps: u64) -> [f32; 2] {
    [(steps / HALF) as f32, (steps % HALF) as f32]
}

fn join([high, low]: [f32; 2]) -> u64 {
    (high as u64)
        .saturating_mul(HALF)
        .saturating_add(low as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{AdamWSettings, MuonSettings};
    use approx::assert_relative_eq;

    fn spec(component: Component, shape: &[usize]) -> TensorSpec {
        TensorSpec {
            name: "w".to_owned(),
            shape: shape.to_vec(),
            component,
        }
    }

    fn muon() -> OptimizerSettings {
        OptimizerSettings::Muon(MuonSettings {
            momentum: 0.95,
            weight_decay: 0.1,
            betas: [0.9, 0.99],
            epsilon: 1e-8,
            embedding_rate: 0.5,
            vector_rate: 1.0,
        })
    }

    #[test]
    fn adamw_follows_its_formula() {
        let settings = OptimizerSettings::AdamW(AdamWSettings {
            betas: [0.9, 0.99],
            epsilon: 1e-8,
            weight_decay: 0.01,
        });
        let mut slot = Slot::new(&spec(Component::LayerNorms, &[2]), &settings);
        let mut values = vec![1.0_f32, -2.0];
        let (mut p, mut m, mut v) = ([1.0_f64, -2.0], [0.0_f64; 2], [0.0_f64; 2]);
        for step in 1..=5 {
            let gradient = [0.3 * step as f32, -0.7];
            slot.apply(&mut values, &gradient, 1e-2, 0.5);
            for i in 0..2 {
                let g = f64::from(gradient[i]) * 0.5;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.99 * v[i] + 0.01 * g * g;
                let (mh, vh) = (
                    m[i] / (1.0 - 0.9_f64.powi(step)),
                    v[i] / (1.0 - 0.99_f64.powi(step)),
                );
                p[i] -= 1e-2 * (0.01 * p[i] + mh / (vh.sqrt() + 1e-8));
            }
        }
        for i in 0..2 {
            assert_relative_eq!(f64::from(values[i]), p[i], max_relative = 1e-5);
        }
    }

    #[test]
    fn muon_moves_matrices_by_a_known_distance() {
        let mut slot = Slot::new(&spec(Component::Attention, &[8, 4]), &muon());
        let mut values = vec![0.0_f32; 32];
        // Orthogonal columns: orthogonalisation may only change their common length.
        let mut gradient: Vec<f32> = (0..32)
            .map(|i| if i / 4 == i % 4 { 2.0 } else { 0.0 })
            .collect();
        slot.prepare(&mut gradient, 1.0, MatmulPrecision::F32);
        slot.apply(&mut values, &gradient, 0.1, 1.0);
        let unit = 0.1 * 0.2 * 8.0_f32.sqrt();
        for (i, value) in values.iter().enumerate() {
            if i / 4 == i % 4 {
                assert!((-1.3 * unit..-0.6 * unit).contains(value), "{value}");
            } else {
                assert!(value.abs() < 1e-6, "{value}");
            }
        }
    }

    #[test]
    fn muon_leaves_embeddings_and_vectors_to_adamw() {
        let kind = |component, shape: &[usize]| {
            let slot = Slot::new(&spec(component, shape), &muon());
            (matches!(slot.state, State::Muon { .. }), slot.rate)
        };
        assert_eq!(kind(Component::FeedForward, &[4, 4]), (true, 1.0));
        assert_eq!(kind(Component::TokenEmbedding, &[4, 4]), (false, 0.5));
        assert_eq!(kind(Component::Head, &[4, 4]), (false, 0.5));
        assert_eq!(kind(Component::FeedForward, &[4]), (false, 1.0));
        assert_eq!(kind(Component::LayerNorms, &[4]), (false, 1.0));
    }

    #[test]
    fn counts_steps_exactly() {
        for steps in [0, 1, HALF - 1, HALF, 123_456_789_012] {
            assert_eq!(join(split(steps)), steps);
        }
    }
}
