//! Rows that take a step: which they are, and how they come out and back.

use burn::tensor::{Device, Int, Tensor};

use super::case::{Case, noise};
use crate::ops;

fn list(rows: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(rows, device)
}

/// The numbers of the rows that are deeper than each step, after how many they are.
fn selected(rows: i64, device: &Device) -> Vec<Vec<f32>> {
    let depths: Vec<i64> = (0..rows).map(|row| row * 31 % 7 % 5).collect();
    let depths = list(&depths, device);
    let select = |step| {
        let (rows, count) = ops::select_rows(depths.clone(), step);
        let ints = |x: Tensor<1, Int>| -> Vec<f32> {
            let data = x.into_data().convert::<f32>();
            data.try_into_vec().unwrap_or_default()
        };
        let mut found = ints(count);
        let chosen = found.first().map_or(0, |count| *count as usize);
        found.extend(ints(rows).into_iter().take(chosen));
        found
    };
    (0..5).map(select).collect()
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, chosen) in [
        ([5, 2, 3], vec![1, 4]),
        ([9, 33, 40], vec![0, 2, 3, 8]),
        ([3, 1, 1], vec![2]),
    ] {
        let [_, seq, dim] = shape;
        let count = chosen.len();
        let x = (noise(shape.iter().product(), 1), shape);
        let new = (noise(count * seq * dim, 2), [count, seq, dim]);
        let rows = chosen.clone();
        let what = format!("gather of {shape:?}");
        cases.push(Case::new(what, vec![x.clone()], move |x| {
            ops::gather_rows(x[0].clone(), list(&rows, &x[0].device()), count)
        }));
        let what = format!("scatter into {shape:?}");
        cases.push(Case::new(what, vec![x, new], move |x| {
            ops::scatter_rows(x[0].clone(), x[1].clone(), list(&chosen, &x[0].device()))
        }));
    }
    for rows in [1, 7, 256, 700] {
        let what = format!("select of {rows} rows");
        cases.push(Case::plain(what, move |device| selected(rows, device)));
    }
    cases
}
