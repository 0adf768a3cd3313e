//! Applying a block as often as each row, or each position, of a batch asks for.

use std::sync::Arc;

use burn::tensor::{Bool, Tensor};

use crate::gathered::Gathered;
use crate::ops::Positions;

/// What a block is given of a batch: the rows and positions that take the step.
pub(crate) struct Seen {
    /// `[rows, positions, dim]`.
    pub(crate) x: Tensor<3>,
    /// The keys that may be seen, `[rows, positions]`; without one, all.
    pub(crate) key_mask: Option<Tensor<2, Bool>>,
    /// Where each of the `rows · positions` was in its sequence, if some were left out.
    pub(crate) positions: Option<Arc<Positions>>,
}

/// Applies `block(step, seen)` to `x: [batch, seq, dim]`, a row `steps[row]` times, or, where there are
/// `batch · seq` numbers, a position as often as its own number says.
///
/// What has halted is not computed: the others are gathered, and scattered back after the step. A position that has
/// halted stays as it is, and the others no longer see it as a key. So no row's result depends on another, and no
/// position's on a later one, as long as those of `block` do not.
///
/// `survival: [batch, 1 or seq, steps]` holds the probability of taking each step; what a step changes is then
/// weighted by it in the backward pass, and only there.
pub(crate) fn recur(
    mut x: Tensor<3>,
    key_mask: Option<&Tensor<2, Bool>>,
    steps: &[usize],
    survival: Option<&Tensor<3>>,
    mut block: impl FnMut(usize, Seen) -> Tensor<3>,
) -> Tensor<3> {
    let [batch, seq, _] = x.dims();
    let deepest = steps.iter().copied().max().unwrap_or(0);
    for step in 0..deepest {
        let gate = survival.map(|survival| straight_through(survival, step));
        let Some(some) = Gathered::new(steps, step, [batch, seq], &x.device()) else {
            let seen = Seen {
                x: x.clone(),
                key_mask: key_mask.cloned(),
                positions: None,
            };
            x = gated(x, block(step, seen), gate);
            continue;
        };
        let chosen = some.gather(x.clone());
        let seen = Seen {
            x: chosen.clone(),
            key_mask: key_mask.map(|mask| some.gather_mask(mask.clone())),
            positions: some.positions(),
        };
        let next = block(step, seen);
        let next = gated(chosen.clone(), next, gate.map(|gate| some.gather(gate)));
        x = some.scatter(x, chosen, next);
    }
    x
}

/// One, with the gradient of the probability of taking step number `step` (Bengio, Léonard and Courville 2013,
/// "Estimating or propagating gradients through stochastic neurons"). `[batch, positions, 1]`.
pub(crate) fn straight_through(survival: &Tensor<3>, step: usize) -> Tensor<3> {
    let probability = survival.clone().narrow(2, step, 1);
    probability.clone() - probability.detach() + 1.0
}

/// `next`, or with a gate `x + (next - x) · gate`.
fn gated(x: Tensor<3>, next: Tensor<3>, gate: Option<Tensor<3>>) -> Tensor<3> {
    match gate {
        Some(gate) => x.clone() + (next - x) * gate,
        None => next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Counts in each number how often it took part, and keeps what the block saw. The same on every device.
    fn run(steps: &[usize], shape: [usize; 2]) -> (Vec<f32>, Vec<[usize; 3]>) {
        let found = run_on(&Device::flex(), steps, shape);
        #[cfg(feature = "gpu")]
        {
            let gpu = crate::open_device(crate::DeviceChoice::Gpu);
            let gpu = gpu.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(run_on(&gpu.device, steps, shape), found, "on the GPU");
        }
        found
    }

    fn run_on(device: &Device, steps: &[usize], shape: [usize; 2]) -> (Vec<f32>, Vec<[usize; 3]>) {
        let [batch, seq] = shape;
        let mut seen = Vec::new();
        let x = Tensor::<3>::zeros([batch, seq, 1], device);
        let mask = Tensor::<2>::ones(shape, device).bool();
        let x = recur(x, Some(&mask), steps, None, |step, given| {
            let keys = given.key_mask.expect("a mask").int().sum();
            let [rows, positions, _] = given.x.dims();
            seen.push([rows, positions, keys.into_scalar::<i64>() as usize]);
            assert!(step < 9);
            given.x + 1.0
        });
        (x.into_data().try_into_vec().expect("f32"), seen)
    }

    #[test]
    fn halted_rows_are_not_computed() {
        let (taken, seen) = run(&[2, 0, 3], [3, 2]);
        assert_eq!(taken, [2.0, 2.0, 0.0, 0.0, 3.0, 3.0]);
        assert_eq!(seen, [[2, 2, 4], [2, 2, 4], [1, 2, 2]]);
    }

    #[test]
    fn halted_positions_are_not_computed() {
        let (taken, seen) = run(&[1, 3, 0, 0], [2, 2]);
        assert_eq!(taken, [1.0, 3.0, 0.0, 0.0]);
        assert_eq!(seen, [[1, 2, 2], [1, 1, 1], [1, 1, 1]]);
        // Rows are as long as the longest of them: a halted position fills the shorter, and stays as it is.
        let (taken, seen) = run(&[2, 0, 1, 1, 0, 0, 2, 2], [2, 4]);
        assert_eq!(taken, [2.0, 0.0, 1.0, 1.0, 0.0, 0.0, 2.0, 2.0]);
        assert_eq!(seen, [[2, 3, 6], [2, 2, 4]]);
    }

    #[test]
    fn nothing_to_do_changes_nothing() {
        assert_eq!(run(&[0, 0], [2, 3]), (vec![0.0; 6], vec![]));
    }
}
