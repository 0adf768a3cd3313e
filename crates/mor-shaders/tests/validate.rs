//! Every shader of decoding and prefill, in every variant and for the shapes in use, is valid WGSL.

mod common;

use mor_shaders::{
    Activation, Arguments, AttentionDecode, Decide, Decision, Dense, Embed, Finish, LayerNorm,
    Matmul, Matvec, Pool, Residual, Rotary, Route, Sample, Shader, Storage, Target, Variant, copy,
};

/// As the engine asks an adapter for no more buffers than WebGPU promises.
fn check(shader: &Shader) {
    common::check(shader, common::BUFFERS);
}

/// Width, its padded form, heads and feed-forward's width of the goldens and both cards.
const SHAPES: [(u32, u32, u32, u32); 4] = [
    (48, 64, 4, 96),
    (40, 64, 2, 72),
    (384, 384, 6, 2048),
    (768, 768, 12, 3072),
];
const STORAGES: [Storage; 3] = [Storage::F32, Storage::F16, Storage::Q8];

#[test]
fn products() {
    for (dim, stride, heads, _) in SHAPES {
        for storage in STORAGES {
            for variant in Variant::ALL {
                let plain = Matvec {
                    rows: 3 * dim,
                    columns: stride,
                    storage,
                    bias: false,
                    norm: None,
                    residual: Residual::None,
                    activation: Activation::None,
                    target: Target::Row,
                    eps: 1e-5,
                };
                check(&plain.shader(variant));
                for norm in [None, Some(dim)] {
                    for rotary in [false, true] {
                        let target = Target::Qkv {
                            head_dim: dim / heads,
                            cache_stride: stride,
                            rotary,
                        };
                        let qkv = Matvec {
                            norm,
                            target,
                            ..plain
                        };
                        check(&qkv.shader(variant));
                    }
                    for residual in [Residual::None, Residual::Plain, Residual::Norm { stride }] {
                        for activation in [Activation::None, Activation::Gelu, Activation::Tanh] {
                            let op = Matvec {
                                bias: true,
                                norm,
                                residual,
                                activation,
                                ..plain
                            };
                            check(&op.shader(variant));
                        }
                    }
                }
                for (bias, residual) in [(false, false), (true, true)] {
                    let op = Matmul {
                        rows: dim,
                        columns: stride,
                        storage,
                        y_stride: stride,
                        bias,
                        residual,
                        activation: Activation::Gelu,
                    };
                    check(&op.shader(variant));
                }
                for on in [false, true] {
                    let op = Embed {
                        vocab: 97,
                        columns: stride,
                        storage,
                        dim,
                        stride,
                        positions: on,
                        norm: on,
                        eps: 1e-5,
                    };
                    check(&op.shader(variant));
                }
            }
        }
    }
}

#[test]
fn copies() {
    check(&copy());
}

#[test]
fn rows() {
    for (dim, stride, heads, _) in SHAPES {
        for variant in Variant::ALL {
            let eps = 1e-5;
            check(&LayerNorm { dim, stride, eps }.shader(variant));
            for (norm, routed) in [(false, false), (true, false), (true, true)] {
                let op = Finish {
                    dim,
                    stride,
                    norm,
                    routed,
                    routes: routed.then_some(6),
                    eps,
                };
                check(&op.shader(variant));
            }
            for leads in [false, true] {
                let op = AttentionDecode {
                    heads,
                    head_dim: dim / heads,
                    stride,
                    leads,
                };
                check(&op.shader(variant));
            }
            check(&Sample { vocab: 8192 }.shader(variant));
        }
        for on in [false, true] {
            let op = Rotary {
                dim,
                head_dim: dim / heads,
                qkv_stride: (3 * dim).next_multiple_of(64),
                stride,
                rotary: on,
                indexed: on,
            };
            check(&op.shader());
        }
    }
}

#[test]
fn routing() {
    let decision = Decision {
        class_steps: vec![1, 3, 5],
        max_steps: 5,
        context: 64,
        header: 64,
        grids: vec![[6, 1, 1]; 6],
    };
    for (dim, stride, ..) in SHAPES {
        for variant in Variant::ALL {
            for (on, follow) in [(false, false), (true, false), (true, true), (false, true)] {
                let op = Route {
                    layers: 1..4,
                    router_stride: 2048,
                    dim,
                    stride,
                    eps: 1e-5,
                    norm: on.then_some(64),
                    pooler: (!on).then_some(Dense {
                        at: 64,
                        inputs: dim,
                        outputs: dim,
                    }),
                    hidden: Dense {
                        at: 640,
                        inputs: dim,
                        outputs: dim / 2,
                    },
                    classes: Dense {
                        at: 1280,
                        inputs: dim / 2,
                        outputs: 3,
                    },
                    follow,
                    decision: decision.clone(),
                };
                check(&op.shader(variant));
            }
        }
        for on in [false, true] {
            check(&Pool { stride, all: on }.shader());
            let op = Decide {
                scores_stride: 64,
                whole: on,
                decision: decision.clone(),
            };
            check(&op.shader());
        }
    }
    let grids = decision.grids;
    check(&Arguments { grids }.shader());
}
