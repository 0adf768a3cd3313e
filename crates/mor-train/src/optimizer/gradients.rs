//! The gradients of a step, wherever they are.

use burn::tensor::{Gradients as Recorded, Tensor};
use mor_model::ops::update::{scaled_sum, sum_squares};
use mor_model::{Model, read_together};
use rayon::prelude::*;

/// Gradients in the order of [`mor_config::ModelConfig::tensors`]; `None` where a parameter took no part.
#[derive(Debug)]
pub enum Gradients {
    /// In memory: on the CPU, or on their way to other processes.
    Host(Vec<Option<Vec<f32>>>),
    /// On a GPU, each flat, where the optimizer works on them too.
    Device(Vec<Option<Tensor<1>>>),
}

impl Gradients {
    /// Takes the gradients out of a backward pass.
    pub fn take(model: &Model, recorded: &mut Recorded, on_device: bool) -> Self {
        match on_device {
            true => Self::Device(model.take_gradient_tensors(recorded)),
            false => Self::Host(model.take_gradients(recorded)),
        }
    }

    /// The norm of all taken as one vector.
    pub fn norm(&self) -> f64 {
        self.norm_and(Vec::new()).0
    }

    /// The norm, and the values of `more`, tensors of one number each, without a gradient. All of it is one read-back
    /// from a GPU.
    pub fn norm_and(&self, mut more: Vec<Tensor<1>>) -> (f64, Vec<f32>) {
        let there: Vec<_> = match self {
            Self::Host(gradients) => {
                let squares = gradients.iter().flatten();
                let squares: f64 = squares.map(|g| mor_kernels::sum_squares(g)).sum();
                let values = read_together(more).into_iter().flatten();
                return (squares.sqrt(), values.collect());
            }
            Self::Device(gradients) => gradients.iter().flatten().cloned().collect(),
        };
        let others = more.len();
        if !there.is_empty() {
            more.push(sum_squares(&there));
        }
        let mut values = read_together(more);
        let squares = values.split_off(others).into_iter().flatten();
        let squares: f64 = squares.map(f64::from).sum();
        (squares.sqrt(), values.into_iter().flatten().collect())
    }

    /// Adds `more`, parameter by parameter; both are in the same place.
    pub fn add(&mut self, more: Self) {
        match (self, more) {
            (Self::Host(sum), Self::Host(more)) => add_each(sum, more, |sum, more| {
                let pairs = sum.par_chunks_mut(1 << 14).zip(more.par_chunks(1 << 14));
                pairs.for_each(|(sum, more)| {
                    for (s, m) in sum.iter_mut().zip(more) {
                        *s += m;
                    }
                });
            }),
            (Self::Device(sum), Self::Device(more)) => add_each(sum, more, |sum, more| {
                // In the memory of what nobody else holds.
                *sum = scaled_sum(sum.clone(), 1.0, more, 1.0);
            }),
            // A run keeps them in one place.
            (Self::Host(_), Self::Device(_)) | (Self::Device(_), Self::Host(_)) => {}
        }
    }

    /// Gives their memory to the next backward pass.
    pub fn recycle(self) {
        if let Self::Host(gradients) = self {
            mor_model::recycle_gradients(gradients);
        }
    }
}

fn add_each<T>(sum: &mut [Option<T>], more: Vec<Option<T>>, add: impl Fn(&mut T, T)) {
    for (sum, more) in sum.iter_mut().zip(more) {
        match (sum.as_mut(), more) {
            (Some(sum), Some(more)) => add(sum, more),
            (None, more) => *sum = more,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use burn::tensor::Device;

    /// The same in memory and as tensors.
    fn both(gradients: Vec<Option<Vec<f32>>>) -> [Gradients; 2] {
        let tensors = gradients.iter().map(|gradient| {
            let values = gradient.as_ref()?;
            Some(Tensor::from_data(values.as_slice(), &Device::flex()))
        });
        let tensors = Gradients::Device(tensors.collect());
        [Gradients::Host(gradients), tensors]
    }

    fn values(gradients: Gradients) -> Vec<Option<Vec<f32>>> {
        match gradients {
            Gradients::Host(gradients) => gradients,
            Gradients::Device(gradients) => {
                let read = |x: Tensor<1>| x.into_data().try_into_vec::<f32>().expect("f32");
                gradients.into_iter().map(|x| x.map(read)).collect()
            }
        }
    }

    #[test]
    fn the_norm_is_of_all_together() {
        for gradients in both(vec![Some(vec![3.0, 0.0]), None, Some(vec![0.0, 4.0])]) {
            assert_relative_eq!(gradients.norm(), 5.0);
        }
    }

    #[test]
    fn other_numbers_come_with_the_norm() {
        let numbers = || [2.0, 7.0].map(|x| Tensor::from_data([x], &Device::flex()));
        for gradients in both(vec![Some(vec![3.0]), None, Some(vec![4.0])]) {
            let (norm, values) = gradients.norm_and(numbers().into());
            assert_relative_eq!(norm, 5.0);
            assert_eq!(values, [2.0, 7.0]);
        }
        for gradients in both(vec![None]) {
            let (norm, values) = gradients.norm_and(numbers().into());
            assert_eq!((norm, values), (0.0, vec![2.0, 7.0]));
            assert_eq!(gradients.norm(), 0.0);
        }
    }

    #[test]
    fn adds_up_gradients() {
        let sums = both(vec![Some(vec![1.0]), None, Some(vec![2.0])]);
        let more = both(vec![Some(vec![0.5]), Some(vec![3.0]), None]);
        for (mut sum, more) in sums.into_iter().zip(more) {
            sum.add(more);
            let expected = [Some(vec![1.5]), Some(vec![3.0]), Some(vec![2.0])];
            assert_eq!(values(sum), expected);
        }
    }
}
