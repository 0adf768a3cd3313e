//! Linear layers against a naive product in f64.

mod common;

use common::{LinearCase, assert_close, on_every_isa, product, wide};
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
        case.check();
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
        linear_gelu_forward(shape, &x, &w, Some(&bias), &mut pre, &mut activated);
        assert_close("pre", &pre, &y, 1e-5);
        let mut separate = vec![f32::NAN; pre.len()];
        gelu_forward(&pre, &mut separate);
        assert_close("gelu", &activated, &wide(&separate), 1e-6);

        for row in y.chunks_mut(outputs) {
            for (v, b) in row.iter_mut().zip(&bias) {
                *v -= f64::from(*b);
            }
        }
        linear_forward(shape, &x, &w, None, &mut pre);
        assert_close("y without bias", &pre, &y, 1e-5);

        let mut accumulated = vec![1.0; dw.len()];
        dw.iter_mut().for_each(|v| *v += 1.0);
        linear_backward_weight_accumulate(shape, &dy, &x, &mut accumulated);
        assert_close("dw accumulated", &accumulated, &dw, 1e-5);

        let wanted = product([1, outputs, rows], |_, _| 1.0, |p, j| dy[p * outputs + j]);
        let mut db = vec![f32::NAN; outputs];
        linear_backward_bias(&dy, &mut db);
        assert_close("db", &db, &wanted, 1e-5);
    }
}
