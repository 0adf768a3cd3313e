//! Thresholds that keep budgets.

use mor_config::Budget;
use mor_model::{ForwardOptions, Model};

use crate::Result;
use crate::data::{Batch, Dataset, IGNORE, Targets, sampled_batches};
use crate::evaluate::{device_of, matrix};

/// Positions of a batch.
const BATCH_TOKENS: usize = 4096;
/// Thresholds that are tried, from "all go on" to "none does".
const TRIED: usize = 24;

/// For each budget of the model's, the threshold at which it loops so often on `data`.
///
/// What a gate sees after the second loop depends on who took it, so the gates themselves are run; between the
/// thresholds that were tried the mean is taken to be straight.
pub(super) fn thresholds(model: &Model, data: &Dataset, tokens: usize) -> Result<Vec<f32>> {
    let routing = &model.config().routing;
    let most = routing.max_steps as f64;
    let mut curve = vec![(0.0, most)];
    for tried in 1..TRIED {
        let threshold = tried as f32 / TRIED as f32;
        let mean = mean_loops(model, data, threshold, tokens)?;
        // More never go on at a higher threshold, but for rounding and chance.
        let before = curve.last().map_or(most, |(_, mean)| *mean);
        curve.push((threshold, mean.min(before)));
    }
    curve.push((1.0, 1.0));
    let mut thresholds: Vec<f32> = (0..routing.budgets())
        .map(|tenths| at_mean(&curve, Budget::beyond_one(tenths).mean()))
        .collect();
    // The ends hold whatever was measured: nobody goes on, or everybody.
    if let [first, .., last] = thresholds.as_mut_slice() {
        (*first, *last) = (1.0, 0.0);
    }
    Ok(thresholds)
}

/// Mean loops of positions that have a successor, at a threshold.
fn mean_loops(model: &Model, data: &Dataset, threshold: f32, tokens: usize) -> Result<f64> {
    let (pad, device) = (model.config().pad_token_id, device_of(model));
    let options = ForwardOptions {
        gate_threshold: Some(threshold),
        ..ForwardOptions::default()
    };
    let (mut loops, mut counted) = (0, 0);
    for rows in sampled_batches(data, tokens, super::SEED, BATCH_TOKENS) {
        let batch = Batch::new(data, &rows, pad, Targets::ALL);
        data.release();
        let ids = matrix(&batch.inputs, &batch, &device);
        let output = model.forward(ids, &options)?;
        let taken = output.steps.iter().flatten().zip(&batch.targets);
        for (taken, _) in taken.filter(|(_, target)| **target != IGNORE) {
            loops += taken;
            counted += 1;
        }
    }
    Ok(loops as f64 / counted.max(1) as f64)
}

/// The threshold at which a falling curve of means has this value.
fn at_mean(curve: &[(f32, f64)], mean: f64) -> f32 {
    for pair in curve.windows(2) {
        let [(low, above), (high, below)] = pair else {
            continue;
        };
        if mean <= *above && mean >= *below {
            let share = if above > below {
                (above - mean) / (above - below)
            } else {
                0.0
            };
            return low + (high - low) * share as f32;
        }
    }
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_lie_between_those_tried() {
        let curve = [(0.0, 3.0), (0.5, 2.0), (1.0, 1.0)];
        let found: Vec<f32> = [3.0, 2.5, 2.0, 1.2, 1.0]
            .iter()
            .map(|mean| at_mean(&curve, *mean))
            .collect();
        assert_eq!(found, [0.0, 0.25, 0.5, 0.9, 1.0]);
    }
}
