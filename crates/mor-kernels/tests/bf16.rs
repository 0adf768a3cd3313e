//! Products with rounded operands. Alone in its file, since the precision is the whole process's.

mod common;

use common::{assert_close, product, random};
use mor_kernels::*;

/// `x` rounded to bfloat16, ties to even.
fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

#[test]
fn products_of_rounded_operands_match_the_reference() {
    set_matmul_precision(MatmulPrecision::Bf16);
    let exact = matmul_precision() == MatmulPrecision::F32;
    let round = |x: f32| if exact { x } else { rounded(x) };
    for [rows, inputs, outputs] in [
        [1, 1, 1],
        [1, 5, 3],
        [7, 17, 33],
        [33, 31, 65],
        [130, 96, 384],
        [257, 1100, 129],
        [1100, 70, 40],
    ] {
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
            |i, p| round(x[i * inputs + p]),
            |p, j| round(w[j * inputs + p]),
        );
        for row in wanted.chunks_mut(outputs) {
            for (v, b) in row.iter_mut().zip(&bias) {
                *v += f64::from(*b);
            }
        }
        let mut y = vec![f32::NAN; rows * outputs];
        linear_forward(shape, &x, &w, Some(&bias), &mut y);
        assert_close("y", &y, &wanted, 1e-5);

        let wanted = product(
            [rows, inputs, outputs],
            |i, p| round(dy[i * outputs + p]),
            |p, j| round(w[p * inputs + j]),
        );
        let mut dx = vec![f32::NAN; rows * inputs];
        linear_backward_input(shape, &dy, &w, &mut dx);
        assert_close("dx", &dx, &wanted, 1e-5);

        let wanted = product(
            [outputs, inputs, rows],
            |i, p| round(dy[p * outputs + i]),
            |p, j| round(x[p * inputs + j]),
        );
        let mut dw = vec![f32::NAN; outputs * inputs];
        linear_backward_weight(shape, &dy, &x, &mut dw);
        assert_close("dw", &dw, &wanted, 1e-5);
    }
}
