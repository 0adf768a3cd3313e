//! Dropout: a kernel on the CPU, which computes its mask again in the backward pass; Burn's own elsewhere.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Device, Distribution, Tensor};

use super::backend::cpu::{Tracked, buffer, contiguous, dims, floats, register, tensor};
use super::backend::has_cpu_kernels;
use super::backend::record::record;

/// While training, zeroes each value with `probability` and scales the others so that the mean
/// stays. What is zeroed follows from the device's seed.
pub fn dropout(x: Tensor<3>, probability: f32, training: bool) -> Tensor<3> {
    if !training || probability == 0.0 {
        return x;
    }
    if has_cpu_kernels(&x) {
        let seed = draw_seed(&x.device());
        return Tensor::from_dispatch(Dispatch::cpu_dropout(x.into_dispatch(), probability, seed));
    }
    let keep = 1.0 - f64::from(probability);
    let mask = x.random_like(Distribution::Bernoulli(keep));
    x * mask * keep.recip()
}

/// A number from the device's random numbers.
fn draw_seed(device: &Device) -> u64 {
    let drawn = Tensor::<1>::random([4], Distribution::Uniform(0.0, 65_536.0), device);
    let drawn = drawn.into_data().convert::<f32>();
    let drawn = drawn.as_slice::<f32>().unwrap_or_default();
    let halves = drawn.iter().map(|half| *half as u64 & 0xFFFF);
    halves.fold(0, |seed, half| seed << 16 | half)
}

/// What Burn dispatches.
#[backend_extension(Autodiff, Flex)]
trait CpuDropout: Backend {
    fn cpu_dropout(x: FloatTensor<Self>, probability: f32, seed: u64) -> FloatTensor<Self>;
}

impl CpuDropout for Flex {
    fn cpu_dropout(x: FlexTensor, probability: f32, seed: u64) -> FlexTensor {
        forward(x, probability, seed)
    }
}

impl<C: CheckpointStrategy> CpuDropout for Autodiff<Flex, C> {
    fn cpu_dropout(x: Tracked, probability: f32, seed: u64) -> Tracked {
        let (x, node) = x.into_parts();
        record::<Flex, C, _, _, 1>(DropoutBackward, [node], || {
            (forward(x, probability, seed), (probability, seed))
        })
    }
}

fn forward(x: FlexTensor, probability: f32, seed: u64) -> FlexTensor {
    let x = contiguous(x);
    let mut y = buffer(floats(&x).len());
    mor_kernels::dropout(floats(&x), probability, seed, &mut y);
    tensor(y, &dims(&x))
}

/// Its state is the probability and the seed.
#[derive(Debug)]
struct DropoutBackward;

impl Backward<Flex, 1> for DropoutBackward {
    type State = (f32, u64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let (probability, seed) = ops.state;
        register(&ops, grads, 0, || forward(dy, probability, seed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_keeps_the_mean_and_only_acts_in_training() {
        let x: Tensor<3> = Tensor::ones([10, 100, 100], &Device::flex());
        let values = |x: Tensor<3>| x.into_data().try_into_vec::<f32>().expect("f32");
        let dropped = values(dropout(x.clone(), 0.25, true));
        let zeros = dropped.iter().filter(|v| **v == 0.0).count();
        assert!((24_000..26_000).contains(&zeros), "{zeros}");
        assert!(
            dropped
                .iter()
                .all(|v| *v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6)
        );
        assert!(values(dropout(x, 0.25, false)).iter().all(|v| *v == 1.0));
    }
}
