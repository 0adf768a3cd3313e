//! Results are the same bits whatever the number of threads, and from run to run.

mod common;

use common::{F32, random};
use mor_kernels::*;

/// Everything a training step computes, as one list of bits.
fn step() -> Vec<u32> {
    let (rows, inputs, outputs) = (2100, 96, 130);
    let shape = LinearShape {
        rows,
        inputs,
        outputs,
    };
    let x = random(1, rows * inputs);
    let w = random(2, outputs * inputs);
    let dy = random(3, rows * outputs);
    let mut all = Vec::new();
    let mut keep = |values: &[f32]| all.extend(values.iter().map(|v| v.to_bits()));

    let (mut y, mut pre) = (vec![0.0; rows * outputs], vec![0.0; rows * outputs]);
    linear_gelu_forward(F32, shape, &x, &w, None, &mut pre, &mut y);
    keep(&y);
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; outputs]);
    linear_backward_input(F32, shape, &dy, &w, &mut dx);
    linear_backward_weight(F32, shape, &dy, &x, &mut dw);
    linear_backward_bias(&dy, &mut db);
    [&dx, &dw, &db].into_iter().for_each(|values| keep(values));

    let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
    let gain = random(4, outputs);
    layer_norm_forward(&pre, None, &gain, &db, 1e-5, &mut y, &mut mean, &mut rstd);
    keep(&y);
    let (mut d, mut dgain, mut dbias) =
        (vec![0.0; y.len()], vec![0.0; outputs], vec![0.0; outputs]);
    layer_norm_backward(
        &pre, &gain, &mean, &rstd, &dy, &mut d, &mut dgain, &mut dbias,
    );
    [&d, &dgain, &dbias]
        .into_iter()
        .for_each(|values| keep(values));

    let heads = AttentionShape {
        batch: 21,
        seq: 100,
        heads: 2,
        head_dim: 48,
    };
    let (mut out, mut lse) = (vec![0.0; x.len()], vec![0.0; 21 * 2 * 100]);
    causal_attention_forward(heads, &x, &x, &x, None, &mut out, &mut lse);
    let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![0.0; x.len()]);
    causal_attention_backward(
        heads, &x, &x, &x, None, &out, &lse, &dx, &mut dq, &mut dk, &mut dv,
    );
    [&out, &dq, &dk, &dv]
        .into_iter()
        .for_each(|values| keep(values));

    let head = CrossEntropyShape {
        rows,
        dim: inputs,
        vocab: outputs,
    };
    let targets: Vec<i64> = (0..rows as i64).map(|i| i % 140).collect();
    let loss = linear_cross_entropy(
        F32, head, &x, &w, &targets, -1, 1e-3, &mut dx, &mut dw, None,
    );
    keep(&[loss.sum as f32]);
    [&dx, &dw].into_iter().for_each(|values| keep(values));
    keep(&[sum_squares(&x) as f32]);
    all
}

#[test]
fn results_do_not_depend_on_threads() -> Result<(), rayon::ThreadPoolBuildError> {
    let mut results = Vec::new();
    for threads in [1, 2, 3, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()?;
        results.push(pool.install(step));
    }
    assert!(results.iter().all(|result| *result == results[0]));
    Ok(())
}
