//! Products with rounded operands. Alone in its file, since the precision is the whole process's.

mod common;

use common::LinearCase;
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
    for sizes in LinearCase::SIZES {
        LinearCase::new(sizes, round).check();
    }
}
