//! Linear layers against a naive product in f64.

mod common;

use common::{F32, LinearCase, assert_close, on_every_isa, product, wide};
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
    for sizes in SIZES {
        let [rows, _, outputs] = sizes;
        let case = LinearCase::new(sizes, |x| x);
        case.check(F32);
        let LinearCase {
            shape,
            x,
            w,
            bias,
            dy,
            mut y,
            mut dw,
            ..
        } = case;

        let mut pre = vec![f32::NAN; y.len()];
        let mut activated = vec![f32::NAN; y.len()];
        linear_gelu_forward(F32, shape, &x, &w, Some(&bias), &mut pre, &mut activated);
        assert_close("pre", &pre, &y, 1e-5);
        let mut separate = vec![f32::NAN; pre.len()];
        gelu_forward(&pre, &mut separate);
        assert_close("gelu", &activated, &wide(&separate), 1e-6);

        for row in y.chunks_mut(outputs) {
            for (v, b) in row.iter_mut().zip(&bias) {
                *v -= f64::from(*b);
            }
        }
        linear_forward(F32, shape, &x, &w, None, &mut pre);
        assert_close("y without bias", &pre, &y, 1e-5);

        let mut accumulated = vec![1.0; dw.len()];
        dw.iter_mut().for_each(|v| *v += 1.0);
        linear_backward_weight_accumulate(F32, shape, &dy, &x, &mut accumulated);
        assert_close("dw accumulated", &accumulated, &dw, 1e-5);

        let wanted = product([1, outputs, rows], |_, _| 1.0, |p, j| dy[p * outputs + j]);
        let mut db = vec![f32::NAN; outputs];
        linear_backward_bias(&dy, &mut db);
        assert_close("db", &db, &wanted, 1e-5);
    }
}

/// `x` rounded to bfloat16, ties to even.
fn rounded_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

#[test]
fn products_of_operands_rounded_to_bf16_match_the_reference() {
    let exact = MatmulPrecision::Bf16.available() == F32;
    let round = |x: f32| if exact { x } else { rounded_to_bf16(x) };
    for sizes in LinearCase::SIZES {
        LinearCase::new(sizes, round).check(MatmulPrecision::Bf16);
    }
}

#[test]
fn products_of_operands_rounded_to_f16_match_the_reference() {
    assert_eq!(MatmulPrecision::F16.available(), MatmulPrecision::F16);
    let round = |x: f32| half::f16::from_f32(x).to_f32();
    for sizes in LinearCase::SIZES {
        LinearCase::new(sizes, round).check(MatmulPrecision::F16);
    }
}
