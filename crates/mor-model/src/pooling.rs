//! What a router sees of a sequence.

use burn::tensor::{Bool, FloatDType, Tensor};
use mor_config::Pooling;

/// Means of `x: [batch, seq, dim]` over positions: `[batch, 1, dim]`, or one for each position, `[batch, seq, dim]`,
/// under [`Pooling::Prefix`]. `real: [batch, seq]` is true at positions that are not pads; without one, all are. The
/// mean over no position is zero.
pub(crate) fn pool(x: Tensor<3>, real: Option<&Tensor<2, Bool>>, pooling: Pooling) -> Tensor<3> {
    // A sum over a long sequence could leave the range of f16.
    let dtype = x.dtype();
    mean(x.cast(FloatDType::F32), real, pooling).cast(dtype)
}

fn mean(x: Tensor<3>, real: Option<&Tensor<2, Bool>>, pooling: Pooling) -> Tensor<3> {
    let real = match (pooling, real) {
        (Pooling::Sequence, _) | (Pooling::Real, None) => return x.mean_dim(1),
        (Pooling::Real, Some(real)) => real.clone(),
        (Pooling::Prefix, real) => match real {
            Some(real) => real.clone(),
            None => {
                let [batch, seq, _] = x.dims();
                Tensor::<2>::ones([batch, seq], &x.device()).bool()
            }
        },
    };
    let weights: Tensor<3> = real.float().unsqueeze_dim(2);
    let kept = x * weights.clone();
    let (sums, counts) = match pooling {
        Pooling::Prefix => (kept.cumsum(1), weights.cumsum(1)),
        Pooling::Sequence | Pooling::Real => (kept.sum_dim(1), weights.sum_dim(1)),
    };
    sums / counts.clamp_min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn means_are_over_the_positions_asked_for() {
        let device = Device::flex();
        let x = Tensor::<3>::from_data([[[1.0], [3.0], [5.0], [7.0]], [[2.0]; 4]], &device);
        let real = Tensor::<2>::from_data([[0.0, 1.0, 1.0, 0.0], [0.0; 4]], &device).bool();
        let means = |real: Option<&Tensor<2, Bool>>, pooling| {
            let pooled = pool(x.clone(), real, pooling);
            let [_, positions, _] = pooled.dims();
            let values = pooled.into_data().try_into_vec::<f32>().expect("f32");
            (positions, values)
        };
        let all = (1, vec![4.0, 2.0]);
        assert_eq!(means(Some(&real), Pooling::Sequence), all);
        assert_eq!(means(None, Pooling::Real), all);
        assert_eq!(means(Some(&real), Pooling::Real), (1, vec![4.0, 0.0]));
        let prefixes = vec![0.0, 3.0, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(means(Some(&real), Pooling::Prefix), (4, prefixes));
        let prefixes = vec![1.0, 2.0, 3.0, 4.0, 2.0, 2.0, 2.0, 2.0];
        assert_eq!(means(None, Pooling::Prefix), (4, prefixes));
    }
}
