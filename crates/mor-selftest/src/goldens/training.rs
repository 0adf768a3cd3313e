//! What training computes on a GPU, forward and backward, against the originals.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use mor_config::Weights;
use mor_engine::gpu::Variant;
use mor_goldens::GoldenSet;
use mor_model::{ForwardOptions, Model, RouterLoss};

use super::compared;
use crate::agreement::{TrainingGpu, distance};
use crate::{Check, Context, Outcome};

/// How far a logit may be from an original's.
const LOGITS: f64 = 1e-4;
/// How far a loss may be, as a part of itself.
const LOSSES: f64 = 1e-5;
/// How far a gradient may be, as a part of the largest of its tensor.
const GRADIENTS: f64 = 1e-4;
/// Target of a position that does not count.
const IGNORE: i64 = -100;

pub(super) fn run(context: &mut Context, variant: Variant, gpu: &TrainingGpu) {
    let name = Some(variant.name());
    for set in GoldenSet::ALL {
        let what = format!("golden batches of {} in training", set.name());
        let check = Check::new(what, name, Some("f32"));
        compared(context, check, true, |check| {
            gpu.use_variant(variant)?;
            forward(set, &gpu.chosen.device, check)
        });
        let what = format!("golden losses and gradients of {}", set.name());
        let check = Check::new(what, name, Some("f32"));
        compared(context, check, true, |check| {
            gpu.use_variant(variant)?;
            backward(set, &gpu.chosen.device, check)
        });
    }
}

fn integers(io: &Weights, name: &str, device: &Device) -> Outcome<Tensor<2, Int>> {
    let shape = io.shape(name)?.to_vec();
    Ok(Tensor::from_data(
        TensorData::new(io.to_i64(name)?, shape),
        device,
    ))
}

fn mask(io: &Weights, device: &Device) -> Outcome<Option<Tensor<2, Bool>>> {
    Ok(match io.contains("attention_mask") {
        true => Some(integers(io, "attention_mask", device)?.equal_elem(1)),
        false => None,
    })
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.without_autodiff().into_data().convert::<f32>();
    data.try_into_vec().unwrap_or_default()
}

/// Batches whose rows take different steps.
fn forward(set: GoldenSet, device: &Device, check: &mut Check) -> Outcome {
    let model = Model::from_weights(&set.config()?, &set.weights()?, device)?;
    let cases: &[&str] = match set {
        GoldenSet::Technical => &["b1_len32", "b4_len16", "b4_rightpad_attn"],
        GoldenSet::Conversational => &["b1_len32", "b4_len16", "b4_rightpad"],
    };
    for case in cases {
        let io = set.open(&format!("{case}.io"))?;
        let options = ForwardOptions {
            attention_mask: mask(&io, device)?,
            ..ForwardOptions::default()
        };
        let output = model.forward(integers(&io, "input_ids", device)?, &options)?;
        let taken: Vec<i64> = output.steps.iter().flatten().map(|s| *s as i64).collect();
        let found = values(model.logits(output.hidden));
        check.case(case, distance(&found, &io.to_f32("logits")?), LOGITS);
        let expected = io.to_i64("steps")?;
        check.exact(taken == expected, || {
            format!("{case} takes {taken:?} steps, not {expected:?}")
        });
    }
    Ok(())
}

/// The loss of a batch, and the gradient of every parameter that the file has.
fn backward(set: GoldenSet, device: &Device, check: &mut Check) -> Outcome {
    let device = device.clone().autodiff();
    let config = set.config()?;
    let model = Model::from_weights(&config, &set.weights()?, &device)?;
    let io = set.open("grads_b4_rightpad.io")?;
    let ids = io.to_i64("input_ids")?;
    let columns = io.shape("input_ids")?.last().copied().unwrap_or(1);
    let options = ForwardOptions {
        attention_mask: mask(&io, &device)?,
        ..ForwardOptions::default()
    };
    let (loss, targets) = match set {
        GoldenSet::Technical => {
            // The original counts a target where the attention mask keeps the position.
            let kept = io.to_i64("targets")?.into_iter();
            let kept = kept.zip(io.to_i64("attention_mask")?);
            let targets = kept.map(|(id, kept)| if kept == 1 { id } else { IGNORE });
            ("lm_loss", targets.collect())
        }
        GoldenSet::Conversational => ("loss", shifted(&io.to_i64("labels")?, columns)),
    };
    let rows = ids.len() / columns.max(1);
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, columns]), &device);
    let output = model.forward(ids, &options)?;
    let losses = model.objective(&output, &targets, IGNORE, &RouterLoss::default())?;
    let expected = io.to_f32(loss)?.first().copied().unwrap_or(f32::NAN);
    let found = match set {
        GoldenSet::Technical => losses.language.clone(),
        GoldenSet::Conversational => losses.total.clone(),
    };
    let apart = distance(&values(found), &[expected]) / f64::from(expected.abs().max(1.0));
    check.case("the loss", apart, LOSSES);
    let gradients = model.take_gradients(&mut losses.total.backward());
    for (spec, gradient) in config.tensors().iter().zip(gradients) {
        let name = format!("grad.{}", spec.name);
        if io.contains(&name) {
            let expected = io.to_f32(&name)?;
            let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let apart = distance(&gradient.unwrap_or_default(), &expected);
            let scale = f64::from(largest.max(f32::MIN_POSITIVE));
            check.case(&name, apart / scale, GRADIENTS);
        }
    }
    Ok(())
}

/// The target of each position from the labels, of which each is the target of the position before.
fn shifted(labels: &[i64], columns: usize) -> Vec<i64> {
    let rows = labels.chunks(columns.max(1));
    let row = |row: &[i64]| {
        let mut targets: Vec<i64> = row.iter().skip(1).copied().collect();
        targets.push(IGNORE);
        targets
    };
    rows.flat_map(row).collect()
}
