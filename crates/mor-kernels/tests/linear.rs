//! Linear layers against a naive product in f64.

mod common;

use common::{assert_close, on_every_isa, product, random};
use mor_kernels::*;

const SIZES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [1, 5, 3],
    [7, 17, 33],
    [33, 31, 65],
    [13, 384, 12],
    [64, 48, 100],
    [130, 96, 384],
    [257, 200, 129],
    [40, 1030, 70],
];

#[test]
fn all_products_match_the_reference() {
    on_every_isa(check_all_products_match_the_reference);
}

fn check_all_products_match_the_reference() {
    for [rows, inputs, outputs] in SIZES {
        let shape = LinearShape {
            rows,
            inputs,
            outputs,
        };
        let x = random(1, rows * inputs);
        let w = random(2, outputs * inputs);
        let bias = random(3, outputs);
        let dy = random(4, rows * outputs);

        let mut wanted = product(
            [rows, outputs, inputs],
            |i, p| x[i * inputs + p],
            |p, j| w[j * inputs + p],
        );
        let mut y = vec![f32::NAN; rows * outputs];
        linear_forward(shape, &x, &w, None, &mut y);
        assert_close("y", &y, &wanted, 1e-5);
        for row in wanted.chunks_mut(outputs) {
            for (v, b) in row.iter_mut().zip(&bias) {
                *v += f64::from(*b);
            }
        }
        y.fill(f32::NAN);
        linear_forward(shape, &x, &w, Some(&bias), &mut y);
        assert_close("y with bias", &y, &wanted, 1e-5);

        let mut pre = vec![f32::NAN; rows * outputs];
        let mut activated = vec![f32::NAN; rows * outputs];
        linear_gelu_forward(shape, &x, &w, Some(&bias), &mut pre, &mut activated);
        assert_close("pre", &pre, &wanted, 1e-5);
        let mut separate = vec![f32::NAN; pre.len()];
        gelu_forward(&pre, &mut separate);
        let wanted_activated: Vec<f64> = separate.iter().map(|v| f64::from(*v)).collect();
        assert_close("gelu", &activated, &wanted_activated, 1e-6);

        let wanted = product(
            [rows, inputs, outputs],
            |i, p| dy[i * outputs + p],
            |p, j| w[p * inputs + j],
        );
        let mut dx = vec![f32::NAN; rows * inputs];
        linear_backward_input(shape, &dy, &w, &mut dx);
        assert_close("dx", &dx, &wanted, 1e-5);

        let mut wanted = product(
            [outputs, inputs, rows],
            |i, p| dy[p * outputs + i],
            |p, j| x[p * inputs + j],
        );
        let mut dw = vec![f32::NAN; outputs * inputs];
        linear_backward_weight(shape, &dy, &x, &mut dw);
        assert_close("dw", &dw, &wanted, 1e-5);
        dw.fill(1.0);
        wanted.iter_mut().for_each(|v| *v += 1.0);
        linear_backward_weight_accumulate(shape, &dy, &x, &mut dw);
        assert_close("dw accumulated", &dw, &wanted, 1e-5);

        let wanted = product([1, outputs, rows], |_, _| 1.0, |p, j| dy[p * outputs + j]);
        let mut db = vec![f32::NAN; outputs];
        linear_backward_bias(&dy, &mut db);
        assert_close("db", &db, &wanted, 1e-5);
    }
}
