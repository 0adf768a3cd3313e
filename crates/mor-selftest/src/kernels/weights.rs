//! Kernels that read weights.

use mor_engine::gpu::{TrialParams, Variant};
use mor_shaders::{Activation, Embed, Matmul, Matvec, Residual, Storage, Target};

use super::operands::{Matrix, bits, noise, padded};
use super::plain::{activated, normalised, product};
use super::{COLUMNS, DIM, EPS, Expected, MANY, ROWS, STRIDE, Trial};

/// One row through weights with a bias, a GELU and a residual.
pub(super) fn matvec(variant: Variant, storage: Storage) -> Trial {
    let weights = Matrix::new(ROWS, DIM, COLUMNS, storage);
    let (x, bias, residual) = (padded(DIM, COLUMNS, 1), noise(ROWS, 2), noise(ROWS, 3));
    let op = Matvec {
        rows: ROWS as u32,
        columns: COLUMNS as u32,
        storage,
        bias: true,
        norm: None,
        residual: Residual::Plain,
        activation: Activation::Gelu,
        target: Target::Row,
        eps: EPS,
    };
    let y = product(&weights, &x).into_iter().enumerate();
    let y = y.map(|(row, sum)| activated(sum + f64::from(bias[row])) + f64::from(residual[row]));
    let shader = op.shader(variant);
    Trial {
        name: "matvec: decoding, a GELU and a residual",
        grid: shader.grid(op.units(variant)),
        shader,
        buffers: vec![
            bits(&x),
            weights.words,
            bits(&bias),
            bits(&residual),
            vec![0; ROWS],
        ],
        numbers: TrialParams::default(),
        expected: vec![Expected::Floats(y.collect())],
    }
}

/// One row through a norm and weights, and a residual through a norm of its own.
pub(super) fn normed_matvec(variant: Variant, storage: Storage) -> Trial {
    let weights = Matrix::new(ROWS, DIM, COLUMNS, storage);
    let (x, bias, residual) = (padded(DIM, COLUMNS, 1), noise(ROWS, 2), noise(ROWS, 3));
    let (gain, shift) = (padded(DIM, COLUMNS, 4), padded(DIM, COLUMNS, 5));
    let (residual_gain, residual_shift) = (padded(ROWS, STRIDE, 6), padded(ROWS, STRIDE, 7));
    let op = Matvec {
        rows: ROWS as u32,
        columns: COLUMNS as u32,
        storage,
        bias: true,
        norm: Some(DIM as u32),
        residual: Residual::Norm {
            stride: STRIDE as u32,
        },
        activation: Activation::None,
        target: Target::Row,
        eps: EPS,
    };
    let read = normalised(&x[..DIM], &gain, &shift, EPS);
    let read: Vec<f32> = read.iter().map(|x| *x as f32).collect();
    let added = normalised(&residual, &residual_gain, &residual_shift, EPS);
    let y = product(&weights, &read).into_iter().enumerate();
    let y = y.map(|(row, sum)| sum + f64::from(bias[row]) + added[row]);
    let shader = op.shader(variant);
    Trial {
        name: "matvec: decoding, through norms",
        grid: shader.grid(op.units(variant)),
        shader,
        buffers: vec![
            bits(&x),
            weights.words,
            bits(&bias),
            bits(&[gain, shift].concat()),
            bits(&residual),
            bits(&[residual_gain, residual_shift].concat()),
            vec![0; ROWS],
        ],
        numbers: TrialParams::default(),
        expected: vec![Expected::Floats(y.collect())],
    }
}

/// Many rows through weights with a bias, a GELU and a residual.
pub(super) fn matmul(variant: Variant, storage: Storage) -> Trial {
    let weights = Matrix::new(ROWS, DIM, COLUMNS, storage);
    let rows: Vec<Vec<f32>> = (0..MANY).map(|row| padded(DIM, COLUMNS, row)).collect();
    let (bias, residual) = (noise(ROWS, 20), noise(MANY * STRIDE, 21));
    let op = Matmul {
        rows: ROWS as u32,
        columns: COLUMNS as u32,
        storage,
        y_stride: STRIDE as u32,
        bias: true,
        residual: true,
        activation: Activation::Gelu,
    };
    let mut y = vec![0.0; MANY * STRIDE];
    for (row, x) in rows.iter().enumerate() {
        for (column, sum) in product(&weights, x).into_iter().enumerate() {
            let at = row * STRIDE + column;
            y[at] = activated(sum + f64::from(bias[column])) + f64::from(residual[at]);
        }
    }
    let (rows_of_group, along_y) = op.tiles(variant);
    Trial {
        name: "matmul: prefill",
        shader: op.shader(variant),
        grid: [(MANY as u32).div_ceil(rows_of_group), along_y, 1],
        buffers: vec![
            bits(&rows.concat()),
            weights.words,
            bits(&bias),
            bits(&residual),
            vec![0; MANY * STRIDE],
        ],
        numbers: TrialParams {
            rows: MANY as u32,
            ..TrialParams::default()
        },
        expected: vec![Expected::Floats(y)],
    }
}

/// Token embeddings with positions and a norm.
pub(super) fn embed(variant: Variant, storage: Storage) -> Trial {
    const FIRST: usize = 2;
    let table = Matrix::new(ROWS, DIM, COLUMNS, storage);
    let ids: Vec<u32> = (0..FIRST + MANY)
        .map(|at| (at * 31 % ROWS) as u32)
        .collect();
    let positions: Vec<Vec<f32>> = (0..ids.len()).map(|at| padded(DIM, STRIDE, at)).collect();
    let (gain, shift) = (padded(DIM, STRIDE, 30), padded(DIM, STRIDE, 31));
    let op = Embed {
        vocab: ROWS as u32,
        columns: COLUMNS as u32,
        storage,
        dim: DIM as u32,
        stride: STRIDE as u32,
        positions: true,
        norm: true,
        eps: EPS,
    };
    let mut y = Vec::new();
    for row in FIRST..FIRST + MANY {
        let token = table.row(ids[row] as usize);
        let sum: Vec<f32> = token
            .iter()
            .zip(&positions[row])
            .map(|(a, b)| a + b)
            .collect();
        let mut values = normalised(&sum[..DIM], &gain, &shift, EPS);
        values.resize(STRIDE, 0.0);
        y.append(&mut values);
    }
    let shader = op.shader(variant);
    Trial {
        name: "embed: tokens, positions and norm",
        grid: shader.grid(MANY as u32),
        shader,
        buffers: vec![
            ids,
            table.words,
            bits(&positions.concat()),
            bits(&[gain, shift].concat()),
            vec![0; MANY * STRIDE],
        ],
        numbers: TrialParams {
            rows: MANY as u32,
            first: FIRST as u32,
            ..TrialParams::default()
        },
        expected: vec![Expected::Floats(y)],
    }
}
