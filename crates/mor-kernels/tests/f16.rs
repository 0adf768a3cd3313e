//! Products of operands rounded to 16-bit floats. Alone in its file, since the precision is the whole process's.

mod common;

use common::LinearCase;
use mor_kernels::*;

#[test]
fn products_of_rounded_operands_match_the_reference() {
    set_matmul_precision(MatmulPrecision::F16);
    assert_eq!(matmul_precision(), MatmulPrecision::F16);
    let round = |x: f32| half::f16::from_f32(x).to_f32();
    for sizes in [
        [1, 1, 1],
        [1, 5, 3],
        [7, 17, 33],
        [33, 31, 65],
        [130, 96, 384],
        [257, 1100, 129],
        [1100, 70, 40],
    ] {
        LinearCase::new(sizes, round).check();
    }
}
