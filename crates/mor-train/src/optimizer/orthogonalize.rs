//! Muon's orthogonalization on a GPU, of all matrices of one shape at once: a kernel costs its launch more than its work
//! where matrices are small.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use mor_model::ops::update::scaled_sum;

/// Coefficients and number of the Newton-Schulz steps; see `mor_kernels::muon_orthogonalize`.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
const STEPS: usize = 5;

/// Elements of the matrices that are worked on together, 64 MiB; adapters bind no more than twice that at once.
const MOST_ELEMENTS: usize = 1 << 24;

/// Replaces the singular values of each flat matrix by about one. `matrices` are shapes and places in `updates`.
pub(super) fn orthogonalize_all(
    matrices: impl Iterator<Item = ([usize; 2], usize)>,
    updates: &mut [Option<Tensor<1>>],
) {
    let mut shapes: BTreeMap<[usize; 2], Vec<usize>> = BTreeMap::new();
    for (shape, place) in matrices {
        shapes.entry(shape).or_default().push(place);
    }
    for ([rows, cols], places) in shapes {
        let together = (MOST_ELEMENTS / (rows * cols).max(1)).max(1);
        for places in places.chunks(together) {
            let taken = places.iter().map(|place| (*place, updates[*place].take()));
            let (places, flat): (Vec<usize>, Vec<Tensor<1>>) = taken
                .filter_map(|(place, update)| Some((place, update?)))
                .unzip();
            if flat.is_empty() {
                continue;
            }
            let stacked = Tensor::cat(flat, 0).reshape([places.len(), rows, cols]);
            let found = orthogonalize(stacked);
            for (at, place) in places.into_iter().enumerate() {
                updates[place] = Some(found.clone().narrow(0, at, 1).flatten(0, 2));
            }
        }
    }
}

/// Replaces the singular values of each matrix of `g: [matrices, rows, cols]` by about one.
fn orthogonalize(g: Tensor<3>) -> Tensor<3> {
    let [_, rows, cols] = g.dims();
    let [a, b, c] = QUINTIC;
    // A row's sum first: drivers that play a GPU on the processor end loops that are as long as a matrix.
    let squares = (g.clone() * g.clone()).sum_dim(2).sum_dim(1);
    let mut x = g / (squares.sqrt() + 1e-7);
    for _ in 0..STEPS {
        // The Gram matrix over the shorter side.
        let product = if rows <= cols {
            let gram = x.clone().matmul(x.clone().transpose());
            let square = scaled_sum(gram.clone().matmul(gram.clone()), c, gram, b);
            square.matmul(x.clone())
        } else {
            let gram = x.clone().transpose().matmul(x.clone());
            let square = scaled_sum(gram.clone().matmul(gram.clone()), c, gram, b);
            x.clone().matmul(square)
        };
        x = scaled_sum(product, 1.0, x, a);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn matrices_of_any_shape_become_what_they_become_alone() {
        let shapes = [[6, 4], [4, 6], [6, 4], [5, 5], [6, 4]];
        let values = |place: usize, [rows, cols]: [usize; 2]| -> Vec<f32> {
            (0..rows * cols)
                .map(|i| ((i * 37 + place * 101) as f32).sin())
                .collect()
        };
        let device = Device::flex();
        let mut updates: Vec<_> = shapes
            .iter()
            .enumerate()
            .map(|(place, shape)| {
                let values = values(place, *shape);
                // One took no part.
                (place != 2).then(|| Tensor::<1>::from_data(values.as_slice(), &device))
            })
            .collect();
        let all = shapes.into_iter().zip(0..);
        orthogonalize_all(all, &mut updates);
        assert!(updates[2].is_none());
        for (place, [rows, cols]) in shapes.into_iter().enumerate() {
            let Some(found) = updates[place].take() else {
                continue;
            };
            let found = found.into_data().try_into_vec::<f32>().expect("f32");
            let mut expected = vec![0.0; rows * cols];
            let values = values(place, [rows, cols]);
            mor_kernels::muon_orthogonalize(
                mor_kernels::MatmulPrecision::F32,
                [rows, cols],
                &values,
                &mut expected,
            );
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
            }
        }
    }
}
