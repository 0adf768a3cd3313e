//! Every operation from Burn's own: runs on any device, and is what the fused ones are tested
//! against. Arguments as in the functions of the same names in [`super`].

use burn::tensor::{
    Bool, DType, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData, activation, module,
};

use super::backend::operands::stored_as;

/// See [`super::linear`].
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let dtype = x.dtype();
    let bias = bias.map(|bias| stored_as(bias, dtype));
    module::linear(x, stored_as(weight, dtype).transpose(), bias)
}

/// See [`super::linear_gelu`].
pub fn linear_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    gelu(linear(x, weight, bias))
}

/// `x · (1 + erf(x / √2)) / 2`, whose gradient autodiff finds: that of Burn's own is the approximate form's.
pub fn gelu(x: Tensor<3>) -> Tensor<3> {
    let twice = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * twice * 0.5
}

/// See [`super::layer_norm`].
pub fn layer_norm(
    x: Tensor<3>,
    residual: Option<Tensor<3>>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    eps: f32,
) -> Tensor<3> {
    let x = match residual {
        Some(residual) => x + residual,
        None => x,
    };
    // Squares would soon leave the range of f16.
    let dtype = x.dtype();
    let x = x.cast(FloatDType::F32);
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let normal = (centred / (variance + eps).sqrt()).cast(dtype);
    normal * stored_as(gain, dtype).unsqueeze() + stored_as(bias, dtype).unsqueeze()
}

/// See [`super::causal_attention`].
pub fn causal_attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    key_mask: Option<Tensor<2, Bool>>,
    heads: usize,
) -> Tensor<3> {
    let [batch, seq, dim] = q.dims();
    let head_dim = dim / heads;
    let device = q.device();
    let split = |x: Tensor<3>| x.reshape([batch, seq, heads, head_dim]).swap_dims(1, 2);
    let scale = (head_dim as f64).sqrt().recip();
    // Scaled first: the products could leave the range of f16.
    let scores = (split(q) * scale).matmul(split(k).swap_dims(2, 3));

    // True where a query must not look: at later keys, and at masked ones.
    let later: Vec<bool> = (0..seq * seq).map(|at| at % seq > at / seq).collect();
    let later = TensorData::new(later, [1, 1, seq, seq]);
    let later: Tensor<4, Bool> = Tensor::from_data(later, &device);
    let scores_shape = [batch, heads, seq, seq];
    let mut hidden = later.expand(scores_shape);
    if let Some(mask) = key_mask {
        let masked: Tensor<4, Bool> = mask.bool_not().reshape([batch, 1, 1, seq]);
        hidden = hidden.bool_or(masked.expand(scores_shape));
    }
    // A finite fill keeps the softmax of a row without keys finite; the second fill zeroes it.
    let lowest = if scores.dtype() == DType::F16 {
        -3e4
    } else {
        -1e30
    };
    let scores = scores.mask_fill(hidden.clone(), lowest);
    let weights = activation::softmax(scores, 3).mask_fill(hidden, 0.0);
    weights
        .matmul(split(v))
        .swap_dims(1, 2)
        .reshape([batch, seq, dim])
}

/// See [`super::gather_rows`].
pub fn gather_rows<const D: usize>(x: Tensor<D>, list: Tensor<1, Int>, count: usize) -> Tensor<D> {
    x.select(0, list.narrow(0, 0, count))
}

/// See [`super::scatter_rows`].
pub fn scatter_rows<const D: usize>(
    x: Tensor<D>,
    rows: Tensor<D>,
    list: Tensor<1, Int>,
) -> Tensor<D> {
    let count = rows.dims()[0];
    let list = list.narrow(0, 0, count);
    // Assigning is adding: what is there goes first.
    let old = x.clone().select(0, list.clone());
    x.select_assign(0, list.clone(), old.neg(), IndexingUpdateOp::Add)
        .select_assign(0, list, rows, IndexingUpdateOp::Add)
}

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

/// See [`super::embedding`].
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    module::embedding(table, ids)
}

/// The rows' losses of [`super::linear_cross_entropy`].
pub fn linear_cross_entropy_losses(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore: i64,
) -> Tensor<1> {
    let ignored = is_counted(&targets, weight.dims()[0], ignore).bool_not();
    let targets: Tensor<2, Int> = targets.mask_fill(ignored.clone(), 0).unsqueeze_dim(1);
    let weight = stored_as(weight, hidden.dtype());
    let logits = hidden.matmul(weight.transpose()).cast(FloatDType::F32);
    let log_probs = activation::log_softmax(logits, 1);
    let losses: Tensor<1> = log_probs.gather(1, targets).squeeze_dim(1);
    losses.neg().mask_fill(ignored, 0.0)
}

/// The mean of rows' losses over those whose target counts.
pub fn mean_of_counted(
    losses: Tensor<1>,
    targets: &Tensor<1, Int>,
    vocab: usize,
    ignore: i64,
) -> Tensor<1> {
    let count = is_counted(targets, vocab, ignore).float().sum();
    losses.sum() / count.clamp_min(1.0)
}

/// Which targets are tokens of the vocabulary, and not the one to ignore.
fn is_counted(targets: &Tensor<1, Int>, vocab: usize, ignore: i64) -> Tensor<1, Bool> {
    let nearest = targets.clone().clamp(0, vocab as i64 - 1);
    let known = nearest.equal(targets.clone());
    if (0..vocab as i64).contains(&ignore) {
        return known.bool_and(targets.clone().not_equal_elem(ignore));
    }
    known
}
