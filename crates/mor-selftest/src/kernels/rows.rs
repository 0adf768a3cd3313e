//! Kernels that read no weights.

use mor_engine::gpu::{TrialParams, Variant};
use mor_shaders::{AttentionDecode, Finish, LayerNorm, Sample, Storage};

use super::operands::{bits, noise, padded};
use super::plain::{attended, normalised};
use super::{DIM, EPS, Expected, MANY, STRIDE, Trial};

/// Rows of a prompt.
pub(super) fn layer_norm(variant: Variant, _: Storage) -> Trial {
    let rows: Vec<Vec<f32>> = (0..MANY).map(|row| padded(DIM, STRIDE, row)).collect();
    let (gain, shift) = (padded(DIM, STRIDE, 40), padded(DIM, STRIDE, 41));
    let op = LayerNorm {
        dim: DIM as u32,
        stride: STRIDE as u32,
        eps: EPS,
    };
    let mut y = Vec::new();
    for row in &rows {
        let mut values = normalised(&row[..DIM], &gain, &shift, EPS);
        values.resize(STRIDE, 0.0);
        y.append(&mut values);
    }
    let shader = op.shader(variant);
    Trial {
        name: "layer_norm: prefill",
        grid: shader.grid(MANY as u32),
        shader,
        buffers: vec![
            bits(&rows.concat()),
            bits(&[gain, shift].concat()),
            vec![0; MANY * STRIDE],
        ],
        numbers: TrialParams {
            rows: MANY as u32,
            ..TrialParams::default()
        },
        expected: vec![Expected::Floats(y)],
    }
}

/// One query to the keys of a cache, some of which take no step.
pub(super) fn attention_decode(variant: Variant, _: Storage) -> Trial {
    const HEADS: usize = 2;
    // More than a workgroup has lanes.
    const POSITION: usize = 150;
    let head_dim = DIM / HEADS;
    let query = padded(DIM, STRIDE, 50);
    let (keys, values) = (
        noise((POSITION + 1) * STRIDE, 51),
        noise((POSITION + 1) * STRIDE, 52),
    );
    let visible: Vec<u32> = (0..=POSITION as u32).map(|at| at % 3).collect();
    let op = AttentionDecode {
        heads: HEADS as u32,
        head_dim: head_dim as u32,
        stride: STRIDE as u32,
        leads: false,
    };
    let mut mixed = vec![0.0; STRIDE];
    for head in 0..HEADS {
        let seen = (0..=POSITION).filter(|at| visible[*at] > 1);
        let columns = head * head_dim..(head + 1) * head_dim;
        let row = |all: &[f32], at: usize| all[at * STRIDE..][columns.clone()].to_vec();
        let pairs = seen.map(|at| (row(&keys, at), row(&values, at))).collect();
        mixed[columns.clone()].copy_from_slice(&attended(&query[columns.clone()], pairs));
    }
    let shader = op.shader(variant);
    Trial {
        name: "attention_decode: one query to a cache",
        grid: shader.grid(HEADS as u32),
        shader,
        buffers: vec![
            bits(&query),
            bits(&keys),
            bits(&values),
            visible,
            vec![0; STRIDE],
        ],
        numbers: TrialParams {
            rows: 1,
            first: POSITION as u32,
            step: 1,
        },
        expected: vec![Expected::Floats(mixed)],
    }
}

/// The likeliest token.
pub(super) fn sample(variant: Variant, _: Storage) -> Trial {
    const VOCAB: usize = 5003;
    let logits = noise(VOCAB, 60);
    let best = (0..VOCAB).fold(0, |best, id| match logits[id] > logits[best] {
        true => id,
        false => best,
    });
    let op = Sample {
        vocab: VOCAB as u32,
    };
    let shader = op.shader(variant);
    Trial {
        name: "sample: the likeliest token",
        grid: shader.grid(1),
        shader,
        buffers: vec![
            bits(&logits),
            vec![0; VOCAB + Sample::SCRATCH as usize],
            vec![1; 4],
            vec![0; 2],
            bits(&[0.0, 0.0, 1.0, 1.0, 0.0]),
        ],
        numbers: TrialParams {
            first: 3,
            ..TrialParams::default()
        },
        expected: vec![Expected::Any, Expected::Words(vec![best as u32])],
    }
}

/// A decoded row to its place, through the norm that it is owed.
pub(super) fn finish(variant: Variant, _: Storage) -> Trial {
    const POSITION: usize = 2;
    let (x, update) = (padded(DIM, STRIDE, 70), padded(DIM, STRIDE, 71));
    let (gain, shift) = (padded(DIM, STRIDE, 72), padded(DIM, STRIDE, 73));
    let op = Finish {
        dim: DIM as u32,
        stride: STRIDE as u32,
        norm: true,
        routed: false,
        routes: None,
        eps: EPS,
    };
    let mut row = normalised(&update[..DIM], &gain, &shift, EPS);
    row.resize(STRIDE, 0.0);
    let mut rows = vec![0.0; (POSITION + 1) * STRIDE];
    rows[POSITION * STRIDE..].copy_from_slice(&row);
    let shader = op.shader(variant);
    Trial {
        name: "finish: a decoded row to its place",
        grid: shader.grid(1),
        shader,
        buffers: vec![
            bits(&x),
            bits(&update),
            bits(&[gain, shift].concat()),
            vec![0; (POSITION + 1) * STRIDE],
            vec![0; STRIDE],
        ],
        numbers: TrialParams {
            first: POSITION as u32,
            ..TrialParams::default()
        },
        expected: vec![Expected::Floats(rows), Expected::Floats(row)],
    }
}
