//! What training minimises: the language-model loss, and for a conversational model that of its router.

use burn::tensor::{FloatDType, Int, Tensor, TensorData, activation};
use mor_config::Architecture;

use crate::{Model, ModelError, Output};

/// How the conversational router is taught: how well the model reads a row says how deep it should think about it.
/// The defaults are the original's.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterLoss {
    /// A row whose perplexity is below the first number should take class 0, one below the second class 1, and so
    /// on; increasing. Rows at or above the last number take the class after it.
    pub thresholds: Vec<f32>,
    /// Weight beside the language-model loss.
    pub weight: f32,
    /// Largest mean cross-entropy of a row that a perplexity is computed from.
    pub max_loss: f32,
    /// Weight of a technical model's [`Output::computation_loss`]. Only where routers get a gradient does it teach
    /// them anything.
    pub compute_penalty: f32,
}

impl Default for RouterLoss {
    fn default() -> Self {
        Self {
            thresholds: vec![20.0, 50.0],
            weight: 0.1,
            max_loss: 20.0,
            compute_penalty: 0.0,
        }
    }
}

/// The losses of a batch; every one is finite, even where nothing is left to predict.
#[derive(Debug, Clone)]
pub struct Losses {
    /// What to differentiate, `[1]`: `language`, plus the router's loss or the price of steps at its weight.
    pub total: Tensor<1>,
    /// Mean cross-entropy of the kept targets, `[1]`. Routing is a hard choice, so it gives the router no gradient.
    pub language: Tensor<1>,
    /// Mean cross-entropy of the router's logits against the pseudo-classes, `[1]`, in a conversational model whose
    /// router decided.
    pub router: Option<Tensor<1>>,
    /// Perplexity of each row, 1 for a row without a kept target; empty without a router's loss.
    pub row_perplexity: Vec<f32>,
    /// The class that each row should have taken; empty likewise.
    pub pseudo_classes: Vec<usize>,
}

impl Model {
    /// The losses of `output` against `targets`, row by row the ids that follow each position, or `ignore`. Nothing is
    /// read from a GPU but what a conversational router is taught by, the losses of positions.
    ///
    /// Under prefix pooling each position with a kept target is taught the pseudo-class of its row.
    ///
    /// # Errors
    /// [`ModelError::Shape`] when there are not as many targets as positions.
    pub fn objective(
        &self,
        output: &Output,
        targets: &[i64],
        ignore: i64,
        settings: &RouterLoss,
    ) -> Result<Losses, ModelError> {
        let hidden = output.hidden.clone();
        let [batch, seq, _] = hidden.dims();
        if targets.len() != batch * seq {
            return Err(ModelError::Shape {
                what: "the number of targets",
                found: vec![targets.len()],
                expected: vec![batch, seq],
            });
        }
        let wanted = TensorData::new(targets.to_vec(), [batch, seq]);
        let wanted = Tensor::from_data(wanted, &hidden.device());
        let (language, nats) = self.mean_and_losses(output.matmul, hidden, wanted, ignore)?;
        let mut losses = Losses {
            total: language.clone(),
            language,
            router: None,
            row_perplexity: Vec::new(),
            pseudo_classes: Vec::new(),
        };
        if settings.compute_penalty > 0.0 && self.config().architecture == Architecture::Technical {
            let steps = output.computation_loss;
            // The steps that were taken, with the gradient of those that were expected.
            let cost = match &output.expected_computation_loss {
                Some(expected) => expected.clone() - expected.clone().detach() + steps,
                None => losses.total.zeros_like() + steps,
            };
            losses.total = losses.total + cost * settings.compute_penalty;
        }
        let logits = match output.router_logits.as_slice() {
            [logits] if self.config().architecture == Architecture::Conversational => logits,
            _ => return Ok(losses),
        };
        let vocab = 0..self.config().vocab_size as i64;
        let kept = targets.iter();
        let kept: Vec<bool> = kept
            .map(|target| *target != ignore && vocab.contains(target))
            .collect();
        let nats = nats.into_values();
        let [_, positions, classes] = logits.dims();
        for (nats, kept) in nats.chunks_exact(seq).zip(kept.chunks_exact(seq)) {
            let count = kept.iter().filter(|kept| **kept).count();
            let mean = nats.iter().sum::<f32>() / count.max(1) as f32;
            let perplexity = mean.min(settings.max_loss).exp();
            losses.row_perplexity.push(perplexity);
            let class = settings.thresholds.iter().filter(|at| perplexity >= **at);
            losses.pseudo_classes.push(class.count().min(classes - 1));
        }
        let taught: Vec<bool> = if positions == 1 {
            vec![true; losses.pseudo_classes.len()]
        } else {
            kept
        };
        let router = router_loss(logits.clone(), &losses.pseudo_classes, &taught);
        losses.total = losses.total + router.clone() * settings.weight;
        losses.router = Some(router);
        Ok(losses)
    }
}

/// Mean cross-entropy, `[1]`, of `logits: [batch, positions, classes]` against the classes of the rows, over the
/// positions that are taught.
fn router_loss(logits: Tensor<3>, rows: &[usize], taught: &[bool]) -> Tensor<1> {
    let [batch, positions, _] = logits.dims();
    let device = logits.device();
    let classes: Vec<i64> = rows
        .iter()
        .flat_map(|class| std::iter::repeat_n(*class as i64, positions))
        .collect();
    let classes = TensorData::new(classes, [batch, positions, 1]);
    let classes: Tensor<3, Int> = Tensor::from_data(classes, &device);
    let count = taught.iter().filter(|taught| **taught).count().max(1) as f32;
    let weights: Vec<f32> = taught
        .iter()
        .map(|taught| if *taught { count.recip() } else { 0.0 })
        .collect();
    let logits = logits.cast(FloatDType::F32);
    let weights = TensorData::new(weights, [batch, positions, 1]);
    let weights = Tensor::from_data(weights, (&device, logits.dtype()));
    let log_probs = activation::log_softmax(logits, 2).gather(2, classes);
    (log_probs * weights).sum().neg()
}
