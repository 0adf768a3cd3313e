//! Applying a block as often as each row, or each position, of a batch asks for.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::ops;

/// Applies `block(step, x, key_mask)` to `x: [batch, seq, dim]`, a row `steps[row]` times, or, where there are
/// `batch · seq` numbers, a position as often as its own number says.
///
/// Rows in which nothing is left to do are not computed. A position that has halted stays as it is, and the others
/// no longer see it as a key. So no row's result depends on another, and no position's on a later one, as long as
/// those of `block` do not.
///
/// `survival: [batch, 1 or seq, steps]` holds the probability of taking each step; what a step changes is then
/// weighted by it in the backward pass, and only there.
pub(crate) fn recur(
    mut x: Tensor<3>,
    key_mask: Option<&Tensor<2, Bool>>,
    steps: &[usize],
    survival: Option<&Tensor<3>>,
    mut block: impl FnMut(usize, Tensor<3>, Option<Tensor<2, Bool>>) -> Tensor<3>,
) -> Tensor<3> {
    let [batch, seq, dim] = x.dims();
    let deepest = steps.iter().copied().max().unwrap_or(0);
    let mut depths = None;
    for step in 0..deepest {
        let active: Vec<bool> = steps.iter().map(|depth| step < *depth).collect();
        let gate = survival.map(|survival| straight_through(survival, step));
        if active.iter().all(|on| *on) {
            let next = block(step, x.clone(), key_mask.cloned());
            x = gated(x, next, gate);
            continue;
        }
        let device = x.device();
        let depths = depths.get_or_insert_with(|| row_depths(steps, batch, &device));
        let rows = Rows::with_any(&active, batch, depths, step);
        let chosen = rows.gather(x.clone());
        let mut keys = key_mask.map(|mask| rows.gather_mask(mask.clone(), &device));
        let mut taking_part = None;
        if active.len() > batch {
            let flags = rows.flags(&active, seq, &device);
            keys = Some(match keys {
                Some(keys) => keys.bool_and(flags.clone()),
                None => flags.clone(),
            });
            let shape = [rows.chosen.len(), seq, dim];
            taking_part = Some(flags.unsqueeze_dim::<3>(2).expand(shape));
        }
        let next = block(step, chosen.clone(), keys);
        let next = gated(chosen.clone(), next, gate.map(|gate| rows.gather(gate)));
        let next = match taking_part {
            Some(mask) => chosen.mask_where(mask, next),
            None => next,
        };
        x = rows.scatter(x, next);
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

/// The rows of a batch that take part in a step.
struct Rows {
    chosen: Vec<usize>,
    /// The chosen ones first, on the device; nothing where all are.
    list: Option<Tensor<1, Int>>,
}

impl Rows {
    /// The rows with any active entry; `active` has as many entries for each of the `batch` rows. `depths: [batch]`
    /// holds the steps of each row.
    fn with_any(active: &[bool], batch: usize, depths: &Tensor<1, Int>, step: usize) -> Self {
        let per_row = (active.len() / batch.max(1)).max(1);
        let rows = active.chunks_exact(per_row).enumerate();
        let chosen = rows.filter(|(_, flags)| flags.contains(&true));
        let chosen: Vec<usize> = chosen.map(|(row, _)| row).collect();
        let some = chosen.len() < batch;
        Self {
            list: some.then(|| ops::select_rows(depths.clone(), step as u32).0),
            chosen,
        }
    }

    fn gather(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.list {
            Some(list) => ops::gather_rows(x, list.clone(), self.chosen.len()),
            None => x,
        }
    }

    fn gather_mask(&self, mask: Tensor<2, Bool>, device: &Device) -> Tensor<2, Bool> {
        if self.list.is_none() {
            return mask;
        }
        // By way of integers: Burn's CPU backend selects Booleans into another representation of them.
        let mask = mask.int().select(0, indices(&self.chosen, device));
        mask.equal_elem(1)
    }

    /// The chosen rows of `active: [batch, seq]`.
    fn flags(&self, active: &[bool], seq: usize, device: &Device) -> Tensor<2, Bool> {
        let rows = self.chosen.iter();
        let flags: Vec<bool> = rows
            .flat_map(|row| active[row * seq..][..seq].iter().copied())
            .collect();
        Tensor::from_data(TensorData::new(flags, [self.chosen.len(), seq]), device)
    }

    /// `x` with its chosen rows replaced by those of `next`.
    fn scatter(&self, x: Tensor<3>, next: Tensor<3>) -> Tensor<3> {
        match &self.list {
            Some(list) => ops::scatter_rows(x, next, list.clone()),
            None => next,
        }
    }
}

/// The steps of the deepest position of each row, `[batch]`.
fn row_depths(steps: &[usize], batch: usize, device: &Device) -> Tensor<1, Int> {
    let per_row = (steps.len() / batch.max(1)).max(1);
    let depths = steps.chunks_exact(per_row);
    let depths: Vec<usize> = depths
        .map(|row| row.iter().copied().max().unwrap_or(0))
        .collect();
    indices(&depths, device)
}

fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    Tensor::from_data(rows.as_slice(), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts in each number how often it took part, and keeps what the block saw. The same on every device.
    fn run(steps: &[usize], shape: [usize; 2]) -> (Vec<f32>, Vec<[usize; 2]>) {
        let found = run_on(&Device::flex(), steps, shape);
        #[cfg(feature = "gpu")]
        {
            let gpu = crate::open_device(crate::DeviceChoice::Gpu);
            let gpu = gpu.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(run_on(&gpu.device, steps, shape), found, "on the GPU");
        }
        found
    }

    fn run_on(device: &Device, steps: &[usize], shape: [usize; 2]) -> (Vec<f32>, Vec<[usize; 2]>) {
        let [batch, seq] = shape;
        let mut seen = Vec::new();
        let x = Tensor::<3>::zeros([batch, seq, 1], device);
        let mask = Tensor::<2>::ones(shape, device).bool();
        let x = recur(x, Some(&mask), steps, None, |step, x, keys| {
            let keys = keys.expect("a mask").int().sum();
            seen.push([x.dims()[0], keys.into_scalar::<i64>() as usize]);
            assert!(step < 9);
            x + 1.0
        });
        (x.into_data().try_into_vec().expect("f32"), seen)
    }

    #[test]
    fn halted_rows_are_not_computed() {
        let (taken, seen) = run(&[2, 0, 3], [3, 2]);
        assert_eq!(taken, [2.0, 2.0, 0.0, 0.0, 3.0, 3.0]);
        assert_eq!(seen, [[2, 4], [2, 4], [1, 2]]);
    }

    #[test]
    fn halted_positions_stay_and_are_hidden() {
        let (taken, seen) = run(&[1, 3, 0, 0], [2, 2]);
        assert_eq!(taken, [1.0, 3.0, 0.0, 0.0]);
        assert_eq!(seen, [[1, 2], [1, 1], [1, 1]]);
    }

    #[test]
    fn nothing_to_do_changes_nothing() {
        assert_eq!(run(&[0, 0], [2, 3]), (vec![0.0; 6], vec![]));
    }
}
