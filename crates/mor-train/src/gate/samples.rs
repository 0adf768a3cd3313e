//! What gates learn from: states of positions after each loop, and what further loops change.

use burn::tensor::{Tensor, activation};
use mor_model::{ForwardOptions, Gate, Model};

use crate::Result;
use crate::data::{Batch, Dataset, IGNORE, Targets, sampled_batches};
use crate::evaluate::{device_of, matrix};

/// Positions of a batch: as many rows of the vocabulary are in memory for each loop.
const BATCH_TOKENS: usize = 1024;

/// A position.
pub(super) struct Sample {
    /// What each gate sees, by loop, `dim + 1` numbers.
    pub(super) features: Vec<Vec<f32>>,
    /// `√KL(prediction after all loops ‖ prediction after this loop)`, by loop.
    pub(super) changes: Vec<f64>,
}

/// Shows positions of documents drawn from `data` that have a successor, about `tokens` of them, where all positions loop
/// equally often.
pub(super) fn visit(
    model: &Model,
    data: &Dataset,
    tokens: usize,
    mut see: impl FnMut(Sample),
) -> Result<()> {
    let (config, device) = (model.config().clone(), device_of(model));
    let options = ForwardOptions::default();
    for rows in sampled_batches(data, tokens, super::SEED, BATCH_TOKENS) {
        let batch = Batch::new(data, &rows, config.pad_token_id, Targets::ALL);
        data.release();
        let ids = matrix(&batch.inputs, &batch, &device);
        let Some(states) = model.loop_states(ids.clone(), &options)? else {
            break;
        };
        let predictions = |state: &Tensor<3>| -> Result<Tensor<3>> {
            let hidden = model.after_loops(state.clone(), &ids, &options)?;
            Ok(activation::log_softmax(model.logits(hidden), 2))
        };
        let (Some(deepest), gates) = (states.last(), states.windows(2)) else {
            break;
        };
        let deepest = predictions(deepest)?;
        let likely = deepest.clone().exp();
        let mut features = Vec::new();
        let mut changes = Vec::new();
        for pair in gates.take(config.routing.max_steps - 1) {
            let [before, after] = pair else { continue };
            let seen = Gate::features(after.clone(), before.clone(), config.layer_norm_eps);
            features.push(seen.into_data().convert::<f32>());
            let divergence = (likely.clone() * (deepest.clone() - predictions(after)?)).sum_dim(2);
            changes.push(divergence.into_data().convert::<f32>());
        }
        let width = config.hidden_size + 1;
        let counted = (0..batch.targets.len()).filter(|at| batch.targets[*at] != IGNORE);
        for at in counted {
            let features = features.iter().map(|all| {
                let all = all.as_slice::<f32>().unwrap_or_default();
                all[at * width..][..width].to_vec()
            });
            let changes = changes.iter().map(|all| {
                let all = all.as_slice::<f32>().unwrap_or_default();
                // Rounding may leave a little less than nothing.
                f64::from(all[at].max(0.0)).sqrt()
            });
            see(Sample {
                features: features.collect(),
                changes: changes.collect(),
            });
        }
    }
    Ok(())
}
