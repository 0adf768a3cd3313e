//! Products of operands rounded to 16-bit floats. Alone in its file, since the precision is the whole process's.

mod common;

use common::LinearCase;
use mor_kernels::*;

#[test]
fn products_of_rounded_operands_match_the_reference() {
    set_matmul_precision(MatmulPrecision::F16);
    assert_eq!(matmul_precision(), MatmulPrecision::F16);
    let round = |x: f32| half::f16::from_f32(x).to_f32();
    for sizes in LinearCase::SIZES {
        LinearCase::new(sizes, round).check();
    }
}
