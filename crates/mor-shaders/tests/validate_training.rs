//! The shaders of training, and of a prompt's attention, are valid WGSL in every variant.

mod common;

use mor_shaders::{
    Attention, ColumnSums, Gather, Gelu, LayerNormTraining, RotaryTraining, RowLosses, Scatter,
    Shader, Variant, adamw, momentum, scaled_sum, select, sum_squares,
};

/// Buffers of attention's backward passes, which training asks an adapter for: more than WebGPU promises.
const BACKWARD_BUFFERS: usize = 11;

fn check(shader: &Shader) {
    common::check(shader, common::BUFFERS);
}

#[test]
fn attention() {
    for variant in Variant::ALL {
        for (dim, heads) in [(48, 4), (40, 2), (384, 6), (256, 2), (512, 2), (6, 6)] {
            for flags in 0..16_u32 {
                let op = Attention {
                    dim,
                    heads,
                    q_stride: dim,
                    kv_stride: dim + 8,
                    out_stride: dim,
                    indexed: flags & 1 > 0,
                    masked: flags & 2 > 0,
                    store_lse: flags & 4 > 0,
                    half: flags & 8 > 0,
                };
                check(&op.shader(variant));
                common::check(&op.backward_q(variant), BACKWARD_BUFFERS);
                common::check(&op.backward_kv(variant), BACKWARD_BUFFERS);
            }
        }
    }
}

#[test]
fn routing() {
    for variant in Variant::ALL {
        check(&select(variant));
    }
    for half in [false, true] {
        check(&Gather { stride: 48, half }.shader());
        check(&Gather { stride: 48, half }.of_known_rows());
        check(&Scatter { stride: 48, half }.shader());
        check(&Scatter { stride: 48, half }.of_known_rows());
        check(&Scatter { stride: 48, half }.clear());
    }
}

#[test]
fn layer_norm() {
    for variant in Variant::ALL {
        for dim in [1, 33, 384, 3072] {
            for (residual, half) in [(false, false), (false, true), (true, false), (true, true)] {
                let op = LayerNormTraining {
                    dim,
                    residual,
                    half,
                };
                check(&op.shader(variant));
                check(&op.backward(variant));
                check(&op.backward_chunks());
                check(&op.backward_sum(variant));
            }
        }
    }
}

#[test]
fn column_sums() {
    for dim in [1, 33, 384, 3072] {
        for half in [false, true] {
            check(&ColumnSums { dim, half }.shader());
        }
    }
}

#[test]
fn rotary() {
    for (dim, head_dim) in [(48, 12), (384, 64), (256, 256), (6, 2), (10, 5)] {
        for flags in 0..8_u32 {
            let op = RotaryTraining {
                dim,
                head_dim,
                indexed: flags & 1 > 0,
                inverse: flags & 2 > 0,
                half: flags & 4 > 0,
            };
            check(&op.shader());
        }
    }
}

#[test]
fn gelu() {
    for half in [false, true] {
        for (stride, biased) in [(1, false), (1536, true), (3072, true)] {
            let op = Gelu {
                stride,
                biased,
                half,
            };
            check(&op.shader());
            check(&op.backward());
        }
    }
}

#[test]
fn row_losses() {
    for half in [false, true] {
        for vocab in [1, 7, 50_260, 300_000] {
            let op = RowLosses { vocab, half };
            for variant in Variant::ALL {
                check(&op.shader(variant));
            }
            check(&op.backward());
        }
    }
}

#[test]
fn optimizer() {
    check(&adamw());
    check(&momentum());
    check(&scaled_sum());
    for variant in Variant::ALL {
        check(&sum_squares(variant));
    }
}
