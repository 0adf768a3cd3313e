//! Speed of the kernels at the sizes of a small model.
//!
//! `cargo run --release -p mor-kernels --example bench_kernels [filter] [--bf16]`, with
//! `RAYON_NUM_THREADS` for the number of threads and `MOR_CPU_ISA` for the instruction set.

use mor_kernels::*;
use std::sync::OnceLock;
use std::time::Instant;

/// Seconds on a clock: wall time, or with one thread on Linux the thread's processor time, which does
/// not count what other programs take from a busy machine.
fn seconds() -> f64 {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    if rayon::current_num_threads() == 1 {
        return processor_seconds();
    }
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed().as_secs_f64()
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[allow(unsafe_code)] // the C library has the only interface to this clock
fn processor_seconds() -> f64 {
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    let mut time = [0; 2];
    // SAFETY: `time` has the layout of a 64-bit `timespec`.
    unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time[0] as f64 + time[1] as f64 * 1e-9
}

/// Prints the best of several runs, as time and as 10⁹ operations (or bytes) per second.
fn measure(name: &str, work: f64, unit: &str, mut run: impl FnMut()) {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    if filter.is_some_and(|filter| !name.contains(&filter)) {
        return;
    }
    run();
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    for round in 0..200 {
        let start = seconds();
        run();
        best = best.min(seconds() - start);
        if round >= 4 && begin.elapsed().as_secs_f64() > 0.6 {
            break;
        }
    }
    println!(
        "{name:44} {:9.3} ms {:8.1} {unit}",
        best * 1e3,
        work / best / 1e9
    );
}

fn random(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn products(precision: MatmulPrecision) {
    for [rows, inputs, outputs] in [
        [4096, 384, 384],
        [4096, 384, 1024],
        [4096, 1024, 384],
        [4096, 384, 8192],
        [512, 384, 1024],
    ] {
        let shape = LinearShape {
            rows,
            inputs,
            outputs,
        };
        let [x, w, dy] = [rows * inputs, outputs * inputs, rows * outputs].map(random);
        let [mut y, mut dx, mut dw] = [dy.len(), x.len(), w.len()].map(random);
        let work = 2.0 * (rows * inputs * outputs) as f64;
        let size = format!("{rows} x {inputs} -> {outputs}");
        measure(&format!("linear forward {size}"), work, "GFLOP/s", || {
            linear_forward(precision, shape, &x, &w, None, &mut y);
        });
        let mut pre = random(y.len());
        measure(
            &format!("linear with gelu forward {size}"),
            work,
            "GFLOP/s",
            || {
                linear_gelu_forward(precision, shape, &x, &w, None, &mut pre, &mut y);
            },
        );
        measure(
            &format!("linear input gradient {size}"),
            work,
            "GFLOP/s",
            || {
                linear_backward_input(precision, shape, &dy, &w, &mut dx);
            },
        );
        measure(
            &format!("linear weight gradient {size}"),
            work,
            "GFLOP/s",
            || {
                linear_backward_weight(precision, shape, &dy, &x, &mut dw);
            },
        );
        let rhs = [(&x, &w, &mut y), (&dy, &w, &mut dx), (&dy, &x, &mut dw)];
        let sizes = [
            ("forward", [rows, outputs, inputs], [inputs, 1], [1, inputs]),
            (
                "input gradient",
                [rows, inputs, outputs],
                [outputs, 1],
                [inputs, 1],
            ),
            (
                "weight gradient",
                [outputs, inputs, rows],
                [1, outputs],
                [inputs, 1],
            ),
        ];
        for ((name, dims, left, right), (a, b, c)) in sizes.into_iter().zip(rhs) {
            measure(
                &format!("gemm crate {name} {size}"),
                work,
                "GFLOP/s",
                || {
                    gemm_crate(dims, a, left, b, right, c);
                },
            );
        }
    }
}

/// The `gemm` crate's product, to compare with.
#[allow(unsafe_code)] // the crate has no safe interface; sizes and strides are those of the slices
fn gemm_crate(
    [m, n, k]: [usize; 3],
    a: &[f32],
    left: [usize; 2],
    b: &[f32],
    right: [usize; 2],
    c: &mut [f32],
) {
    // SAFETY: sizes and strides are those of the slices, and `c` is borrowed mutably.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            left[1] as isize,
            left[0] as isize,
            b.as_ptr(),
            right[1] as isize,
            right[0] as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

fn attention() {
    for (batch, seq) in [(64, 64), (32, 128), (16, 256)] {
        let shape = AttentionShape {
            batch,
            seq,
            heads: 6,
            head_dim: 64,
        };
        let len = batch * seq * 384;
        let [q, k, v, d_out] = [(); 4].map(|()| random(len));
        let [mut out, mut dq, mut dk, mut dv] = [(); 4].map(|()| random(len));
        let mut lse = random(batch * 6 * seq);
        let pairs = (batch * 6 * seq * (seq + 1) / 2) as f64;
        measure(
            &format!("attention forward {batch} x {seq}"),
            pairs * 256.0,
            "GFLOP/s",
            || {
                causal_attention_forward(shape, &q, &k, &v, None, &mut out, &mut lse);
            },
        );
        measure(
            &format!("attention backward {batch} x {seq}"),
            pairs * 640.0,
            "GFLOP/s",
            || {
                causal_attention_backward(
                    shape, &q, &k, &v, None, &out, &lse, &d_out, &mut dq, &mut dk, &mut dv,
                );
            },
        );
        measure(
            &format!("rotary {batch} x {seq}"),
            8.0 * len as f64,
            "GB/s",
            || {
                rotary_forward(shape, 10_000.0, None, &mut out);
            },
        );
    }
}

fn head(precision: MatmulPrecision) {
    let shape = CrossEntropyShape {
        rows: 4096,
        dim: 384,
        vocab: 8192,
    };
    let CrossEntropyShape { rows, dim, vocab } = shape;
    let hidden = random(rows * dim);
    let weight: Vec<f32> = random(vocab * dim).iter().map(|w| w * 0.1).collect();
    let targets: Vec<i64> = (0..rows as i64).map(|i| i * 7 % vocab as i64).collect();
    let [mut d_hidden, mut d_weight] = [hidden.len(), weight.len()].map(random);
    let work = 6.0 * (rows * dim * vocab) as f64;
    measure("cross entropy, both directions", work, "GFLOP/s", || {
        linear_cross_entropy(
            precision,
            shape,
            &hidden,
            &weight,
            &targets,
            -1,
            1e-4,
            &mut d_hidden,
            &mut d_weight,
            None,
        );
    });
    measure("cross entropy, forward", work / 3.0, "GFLOP/s", || {
        linear_cross_entropy_forward(precision, shape, &hidden, &weight, &targets, -1, None);
    });
}

fn pointwise() {
    let (rows, dim) = (4096, 384);
    let [x, dy] = [(); 2].map(|()| random(rows * 1024));
    let mut y = random(rows * 1024);
    let bytes = 4.0 * x.len() as f64;
    measure("gelu forward 4096 x 1024", 2.0 * bytes, "GB/s", || {
        gelu_forward(&x, &mut y)
    });
    measure("gelu backward 4096 x 1024", 3.0 * bytes, "GB/s", || {
        gelu_backward(&x, &dy, &mut y)
    });
    let len = 64 * 1024;
    let bytes = 4.0 * len as f64;
    measure(
        "gelu forward 64 x 1024, cached",
        2.0 * bytes,
        "GB/s",
        || {
            gelu_forward(&x[..len], &mut y[..len]);
        },
    );
    measure(
        "gelu backward 64 x 1024, cached",
        3.0 * bytes,
        "GB/s",
        || {
            gelu_backward(&x[..len], &dy[..len], &mut y[..len]);
        },
    );
    let bytes = 4.0 * x.len() as f64;
    let mut db = random(1024);
    measure("bias gradient 4096 x 1024", bytes, "GB/s", || {
        linear_backward_bias(&dy, &mut db)
    });

    let len = rows * dim;
    let [x, r, dy] = [(); 3].map(|()| random(len));
    let [mut y, mut sum, mut dx] = [(); 3].map(|()| random(len));
    let [mut mean, mut rstd] = [(); 2].map(|()| random(rows));
    let [gain, bias, mut dgain, mut dbias] = [(); 4].map(|()| random(dim));
    let bytes = 4.0 * len as f64;
    measure(
        "layer norm forward with residual",
        4.0 * bytes,
        "GB/s",
        || {
            let residual = Some((&r[..], &mut sum[..]));
            layer_norm_forward(
                &x, residual, &gain, &bias, 1e-5, &mut y, &mut mean, &mut rstd,
            );
        },
    );
    measure("layer norm backward", 3.0 * bytes, "GB/s", || {
        layer_norm_backward(
            &x, &gain, &mean, &rstd, &dy, &mut dx, &mut dgain, &mut dbias,
        );
    });
    let ids: Vec<i64> = (0..rows as i64).map(|i| i * 37 % 8192).collect();
    let mut table = random(8192 * dim);
    measure("embedding gradient", 3.0 * bytes, "GB/s", || {
        embedding_backward(&ids, dim, &dy, &mut table);
    });
}

fn optimizer(precision: MatmulPrecision) {
    let len = 10_000_000;
    let [mut param, grad, mut first, mut second] = [(); 4].map(|()| random(len));
    second.iter_mut().for_each(|v| *v = v.abs());
    let settings = AdamW {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.01,
        grad_scale: 1.0,
        step: 3,
    };
    measure("adamw, 10 M", 28.0 * len as f64, "GB/s", || {
        adamw_step(&settings, &mut param, &grad, &mut first, &mut second);
    });
    measure("sum of squares, 10 M", 4.0 * len as f64, "GB/s", || {
        std::hint::black_box(sum_squares(&grad));
    });
    for (rows, cols) in [(384, 384), (1024, 384), (384, 1024)] {
        let g = random(rows * cols);
        let mut out = random(rows * cols);
        let side = rows.min(cols) as f64;
        let work = 5.0 * (4.0 * side * g.len() as f64 + 2.0 * side.powi(3));
        measure(&format!("muon {rows} x {cols}"), work, "GFLOP/s", || {
            muon_orthogonalize(precision, [rows, cols], &g, &mut out);
        });
    }
}

fn main() {
    let precision = match std::env::args().any(|arg| arg == "--bf16") {
        true => MatmulPrecision::Bf16.available(),
        false => MatmulPrecision::F32,
    };
    let threads = rayon::current_num_threads();
    println!("{:?}, {precision:?}, {threads} threads", current_isa());
    products(precision);
    attention();
    head(precision);
    pointwise();
    optimizer(precision);
}
