//! Rotary positions from Burn's own operations, for any device and precision.

use burn::tensor::{Tensor, TensorData};

/// See [`super::rotary`].
pub fn rotary(x: Tensor<3>, heads: usize, base: f32, positions: Option<&[u32]>) -> Tensor<3> {
    let [batch, seq, dim] = x.dims();
    let head_dim = dim / heads;
    let half = head_dim / 2;
    let (device, dtype) = (x.device(), x.dtype());
    // One sequence's serve all where they count alike.
    let (rows, tables) = match positions {
        Some(_) => (batch * seq, batch),
        None => (seq, 1),
    };
    let table = |f: fn(f64) -> f64| -> Tensor<4> {
        let values: Vec<f32> = (0..rows * half)
            .map(|at| {
                let row = at / half;
                let position = positions.map_or(row, |all| all[row] as usize);
                f(mor_math::angle(
                    position,
                    at % half,
                    head_dim,
                    f64::from(base),
                )) as f32
            })
            .collect();
        let values = TensorData::new(values, [tables, seq, 1, half]);
        Tensor::from_data(values, (&device, dtype))
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let x = x.reshape([batch, seq, heads, head_dim]);
    let low = x.clone().narrow(3, 0, half);
    let high = x.narrow(3, half, half);
    let rotated = vec![
        low.clone() * cos.clone() - high.clone() * sin.clone(),
        high * cos + low * sin,
    ];
    Tensor::cat(rotated, 3).reshape([batch, seq, dim])
}
