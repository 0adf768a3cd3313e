//! Routers: how many steps a row, or a position, takes.

use burn::module::Module;
use burn::tensor::{Bool, Distribution, FloatDType, Tensor, TensorData, activation};
use mor_config::Pooling;

use crate::mode::Mode;
use crate::pooling::pool;
use crate::{Linear, ops};

/// What a router decided for a batch.
#[derive(Debug, Clone)]
pub struct Routing {
    /// Logits of the classes, `[batch, 1, classes]`, or `[batch, seq, classes]` under [`Pooling::Prefix`].
    pub logits: Tensor<3>,
    /// Steps of the likeliest class, the first of equals, for each row, or for each position, row by row.
    pub steps: Vec<usize>,
}

/// `classes(gelu(hidden(pooled)))`, the argmax of which is a number of steps. In the conversational model
/// `pooled` passes `tanh(pooler(·))` first.
///
/// The choice is a hard argmax, so the language-model loss gives a router no gradient, unless steps are weighted by
/// [`Self::survival`].
#[derive(Module, Debug)]
pub struct Router {
    /// `[dim, dim]`, in the conversational model.
    pub pooler: Option<Linear>,
    /// `[router_hidden, dim]`.
    pub hidden: Linear,
    /// `[classes, router_hidden]`.
    pub classes: Linear,
    /// The positions it sees.
    #[module(skip)]
    pub pooling: Pooling,
    /// Steps that each class stands for.
    pub class_steps: Vec<usize>,
    /// Dropout probability.
    pub dropout: f32,
}

impl Router {
    /// Decides for `x: [batch, seq, dim]`. `real: [batch, seq]` is true at positions that are not pads; without one,
    /// all are.
    /// With `explore`, a class is drawn by its probability instead: a router that always takes the likeliest would never
    /// see what another depth is worth.
    pub fn forward(
        &self,
        x: Tensor<3>,
        real: Option<&Tensor<2, Bool>>,
        mode: Mode,
        explore: bool,
    ) -> Routing {
        let mut pooled = pool(x, real, self.pooling);
        if let Some(pooler) = &self.pooler {
            pooled = pooler.forward(pooled, mode.matmul).tanh();
        }
        let hidden = self.hidden.forward_gelu(pooled, mode.matmul);
        let hidden = ops::dropout(hidden, self.dropout, mode.training);
        let logits = self.classes.forward(hidden, mode.matmul);
        let [.., classes] = logits.dims();
        let choice = logits.clone().without_autodiff().cast(FloatDType::F32);
        let choice = match explore {
            true => choice.clone() + gumbel(&choice),
            false => choice,
        };
        let values = choice.into_data().convert::<f32>();
        let steps = values.as_slice::<f32>().unwrap_or_default();
        let steps = steps.chunks_exact(classes).map(argmax);
        let steps = steps.map(|class| self.class_steps.get(class).copied().unwrap_or(0));
        Routing {
            steps: steps.collect(),
            logits,
        }
    }
}

impl Router {
    /// The probability of taking each step from the first to number `max_steps`, `[batch, positions, max_steps]`, by
    /// the logits of [`Routing`].
    pub fn survival(&self, logits: Tensor<3>, max_steps: usize) -> Tensor<3> {
        let device = logits.device();
        // A class takes the steps below its number.
        let takes: Vec<f32> = self
            .class_steps
            .iter()
            .flat_map(|steps| (0..max_steps).map(move |step| f32::from(u8::from(step < *steps))))
            .collect();
        let takes = TensorData::new(takes, [1, self.class_steps.len(), max_steps]);
        let takes = Tensor::<3>::from_data(takes, (&device, logits.dtype()));
        let [batch, ..] = logits.dims();
        let takes = takes.repeat_dim(0, batch);
        activation::softmax(logits, 2).matmul(takes)
    }
}

/// Noise in the shape of `logits` whose largest sum with them is at each class with its probability (Gumbel 1954). They
/// are f32: in f16 a uniform number is often rounded to one, whose noise is infinite.
fn gumbel(logits: &Tensor<3>) -> Tensor<3> {
    let inside = Distribution::Uniform(f64::from(f32::EPSILON), 1.0 - f64::from(f32::EPSILON));
    let uniform = logits.clone().random_like(inside);
    uniform.log().neg().log().neg()
}

/// Index of the largest value; the first of several.
fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (at, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = at;
        }
    }
    best
}
