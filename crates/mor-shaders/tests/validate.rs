//! Every shader, in every variant and for the shapes in use, is valid WGSL.

mod common;

use common::check;
use mor_shaders::{LayerNorm, Variant};

#[test]
fn layer_norm() {
    for variant in Variant::ALL {
        for (dim, stride) in [(48, 64), (384, 384), (768, 768)] {
            let op = LayerNorm {
                dim,
                stride,
                eps: 1e-5,
            };
            check(&op.shader(variant));
        }
    }
}
