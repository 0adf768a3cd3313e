//! The fused CPU operations against the same operations composed from Burn's own: values and the
//! gradient of every operand, on sizes that fill no vector register evenly.

use std::sync::Arc;

use crate::common::{distance, values};
use burn::tensor::{Bool, Device, Distribution, Gradients, Int, Tensor, TensorData};
use mor_model::MatmulPrecision;
use mor_model::ops::{self, Positions, composed};

const F32: MatmulPrecision = MatmulPrecision::F32;

fn device() -> Device {
    Device::flex().autodiff()
}

/// A tracked leaf of standard-normal values.
fn leaf<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device()).require_grad()
}

/// A copy of a leaf with a gradient of its own.
fn twin<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_data(tensor.to_data(), &device()).require_grad()
}

fn close(what: &str, found: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
    let worst = distance(found, expected);
    assert!(worst < 2e-5 * largest, "{what}: {worst} of {largest}");
}

/// The values of `y`, and the gradients of an arbitrary function of it.
fn differentiate<const D: usize>(y: Tensor<D>) -> (Vec<f32>, Gradients) {
    let count = y.shape().num_elements() as i64;
    let weights = Tensor::arange(0..count, &device()).float().sin();
    let weights = weights.reshape(y.dims());
    (values(y.clone()), (y * weights).sum().backward())
}

/// Runs an operation both ways on the same operands, and compares the outputs and every operand's
/// gradient.
macro_rules! check {
    ($name:literal, |$($operand:ident),+| $fused:expr, $composed:expr) => {{
        let (found, gradients) = differentiate($fused);
        let found_gradients =
            [$(values($operand.grad(&gradients).expect("a gradient"))),+];
        $(let $operand = twin(&$operand);)+
        let (expected, gradients) = differentiate($composed);
        let expected_gradients =
            [$(values($operand.grad(&gradients).expect("a gradient"))),+];
        close($name, &found, &expected);
        let names = [$(stringify!($operand)),+];
        for (at, name) in names.iter().enumerate() {
            let what = format!("{}: gradient of {name}", $name);
            close(&what, &found_gradients[at], &expected_gradients[at]);
        }
    }};
}

#[test]
fn linear() {
    for [batch, seq, inputs, outputs] in [[1, 1, 5, 3], [2, 7, 20, 33], [3, 17, 48, 64]] {
        let (x, w, b) = (
            leaf([batch, seq, inputs]),
            leaf([outputs, inputs]),
            leaf([outputs]),
        );
        check!(
            "linear",
            |x, w, b| ops::linear(F32, x.clone(), w.clone(), Some(b.clone())),
            composed::linear(x.clone(), w.clone(), Some(b.clone()))
        );
        check!(
            "linear without bias",
            |x, w| ops::linear(F32, x.clone(), w.clone(), None),
            composed::linear(x.clone(), w.clone(), None)
        );
        check!(
            "linear and GELU",
            |x, w, b| ops::linear_gelu(F32, x.clone(), w.clone(), Some(b.clone())),
            composed::linear_gelu(x.clone(), w.clone(), Some(b.clone()))
        );
    }
}

#[test]
fn linear_on_a_view() {
    // Neither operand is contiguous.
    let (x, w) = (leaf([2, 6, 9]), leaf([6, 4]));
    check!(
        "views",
        |x, w| ops::linear(F32, x.clone().swap_dims(1, 2), w.clone().transpose(), None),
        composed::linear(x.clone().swap_dims(1, 2), w.clone().transpose(), None)
    );
}

#[test]
fn layer_norm() {
    for [batch, seq, dim] in [[1, 1, 5], [2, 7, 33], [3, 40, 48]] {
        let (x, r) = (leaf([batch, seq, dim]), leaf([batch, seq, dim]));
        let (g, b) = (leaf([dim]), leaf([dim]));
        check!(
            "layer norm",
            |x, g, b| ops::layer_norm(x.clone(), None, g.clone(), b.clone(), 1e-5),
            composed::layer_norm(x.clone(), None, g.clone(), b.clone(), 1e-5)
        );
        check!(
            "layer norm of a sum",
            |x, r, g, b| ops::layer_norm(x.clone(), Some(r.clone()), g.clone(), b.clone(), 1e-5),
            composed::layer_norm(x.clone(), Some(r.clone()), g.clone(), b.clone(), 1e-5)
        );
    }
}

#[test]
fn causal_attention() {
    for ([batch, seq, dim], heads) in [([1, 1, 8], 2), ([2, 9, 24], 2), ([2, 37, 48], 4)] {
        let (q, k, v) = (
            leaf([batch, seq, dim]),
            leaf([batch, seq, dim]),
            leaf([batch, seq, dim]),
        );
        check!(
            "attention",
            |q, k, v| ops::causal_attention(q.clone(), k.clone(), v.clone(), None, heads),
            composed::causal_attention(q.clone(), k.clone(), v.clone(), None, heads)
        );
        // Every third key hidden, the first too: position 0 then sees nothing at all.
        let keep: Vec<bool> = (0..batch * seq).map(|at| at % seq % 3 != 0).collect();
        let mask: Tensor<2, Bool> =
            Tensor::from_data(TensorData::new(keep, [batch, seq]), &device());
        check!(
            "masked attention",
            |q, k, v| ops::causal_attention(
                q.clone(),
                k.clone(),
                v.clone(),
                Some(mask.clone()),
                heads
            ),
            composed::causal_attention(q.clone(), k.clone(), v.clone(), Some(mask.clone()), heads)
        );
    }
}

#[test]
fn rotary() {
    let x = leaf([2, 19, 48]);
    check!(
        "rotary",
        |x| ops::rotary(x.clone(), 4, 10_000.0, None),
        composed::rotary(x.clone(), 4, 10_000.0, None)
    );
    let [batch, seq, _] = x.dims();
    let positions = (0..batch * seq).map(|at| (at * 5 % 11) as u32);
    let positions: Arc<Positions> = Arc::new(positions.collect());
    check!(
        "rotary positions out of order",
        |x| ops::rotary(x.clone(), 4, 10_000.0, Some(&positions)),
        composed::rotary(x.clone(), 4, 10_000.0, Some(positions.values()))
    );
}

#[test]
fn rotary_follows_its_formula() {
    let (seq, heads, head_dim, base) = (11, 3, 8, 100.0_f64);
    let x = leaf([1, seq, heads * head_dim]);
    let given = values(x.clone());
    let found = values(ops::rotary(x, heads, base as f32, None));
    for (at, found) in found.iter().enumerate() {
        let (position, column) = (at / (heads * head_dim), at % head_dim);
        let pair = column % (head_dim / 2);
        let angle = position as f64 * base.powf(-2.0 * pair as f64 / head_dim as f64);
        let expected = if column < head_dim / 2 {
            f64::from(given[at]) * angle.cos() - f64::from(given[at + head_dim / 2]) * angle.sin()
        } else {
            f64::from(given[at]) * angle.cos() + f64::from(given[at - head_dim / 2]) * angle.sin()
        };
        assert!((f64::from(*found) - expected).abs() < 1e-5);
    }
}

#[test]
fn embedding() {
    let table = leaf([13, 10]);
    let ids: Tensor<2, Int> = Tensor::from_data([[1, 0, 12, 1], [5, 1, 1, 7]], &device());
    check!(
        "embedding",
        |table| ops::embedding(table.clone(), ids.clone()),
        composed::embedding(table.clone(), ids.clone())
    );
}

#[test]
fn linear_cross_entropy() {
    for [rows, dim, vocab] in [[1, 4, 3], [9, 20, 31], [40, 48, 97]] {
        let (h, w) = (leaf([rows, dim]), leaf([vocab, dim]));
        let targets: Vec<i64> = (0..rows as i64)
            .map(|row| match row % 8 {
                3 => -100,
                7 => vocab as i64,
                _ => row * 7 % vocab as i64,
            })
            .collect();
        let t: Tensor<1, Int> = Tensor::from_data(targets.as_slice(), &device());
        check!(
            "cross-entropy",
            |h, w| ops::linear_cross_entropy(F32, h.clone(), w.clone(), t.clone(), -100).0 * 3.0,
            {
                let losses =
                    composed::linear_cross_entropy_losses(h.clone(), w.clone(), t.clone(), -100);
                composed::mean_of_counted(losses, &t, vocab, -100) * 3.0
            }
        );
        close(
            "losses",
            &ops::linear_cross_entropy(F32, h.clone(), w.clone(), t.clone(), -100)
                .1
                .into_values(),
            &values(composed::linear_cross_entropy_losses(h, w, t, -100)),
        );
    }
}

/// Of several threads with precisions of their own too.
#[test]
fn a_product_and_its_gradients_have_the_precision_asked_for() {
    // 16-bit floats have one bit less than it takes.
    let long = 1.0 + 2.0_f32.powi(-12);
    let products = |matmul: MatmulPrecision| {
        let [x, w] = [[1, 1, 2], [1, 1, 2]].map(|shape| {
            let data = TensorData::new(vec![long, 0.0], shape);
            Tensor::<3>::from_data(data, &device()).require_grad()
        });
        let y = ops::linear(matmul, x.clone(), w.clone().squeeze_dim(0), None);
        let gradients = y.clone().sum().backward();
        let gradients = [x, w].map(|leaf| values(leaf.grad(&gradients).expect("a gradient"))[0]);
        (values(y)[0], gradients)
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                assert_eq!(products(MatmulPrecision::F16), (1.0, [1.0, 1.0]));
            }
        });
        for _ in 0..50 {
            assert_eq!(products(F32), (long * long, [long, long]));
        }
    });
}

#[test]
fn cross_entropy_of_nothing_is_zero() {
    let (h, w) = (leaf([3, 4]), leaf([5, 4]));
    let ignored: Tensor<1, Int> = Tensor::from_data([-1, -1, -1], &device());
    let (loss, _) = ops::linear_cross_entropy(F32, h.clone(), w, ignored, -1);
    assert_eq!(values(loss.clone()), [0.0]);
    let gradient = h.grad(&loss.backward()).expect("a gradient");
    assert!(values(gradient).iter().all(|v| *v == 0.0));
}

/// The backward pass drops what the forward pass dropped.
#[test]
fn dropout_repeats_its_mask() {
    device().seed(5);
    let (x, weights) = (leaf([3, 40, 50]), leaf([3, 40, 50]).detach());
    let dropped = ops::dropout(x.clone(), 0.3, true);
    let gradient = x
        .grad(&(dropped.clone() * weights.clone()).sum().backward())
        .expect("a gradient");
    let (x, dropped) = (values(x), values(dropped));
    let zeros = dropped.iter().filter(|value| **value == 0.0).count();
    assert!((1600..2000).contains(&zeros), "{zeros} of 6000");
    for (place, (gradient, weight)) in values(gradient).iter().zip(values(weights)).enumerate() {
        let kept = dropped[place] / x[place];
        assert!((gradient - weight * kept).abs() < 1e-5, "{place}");
    }
}
