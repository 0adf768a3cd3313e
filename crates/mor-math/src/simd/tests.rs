//! Every instruction set against plain loops, lane by lane.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "arrays are as long as vectors"
)]

use super::*;
use crate::{Isa, SplitMix64};

/// Holds every operation to a plain loop, on random numbers between -8 and 8.
fn check<S: Simd>() {
    let mut draw = SplitMix64::new(9);
    let mut vector = || -> Vec<f32> {
        (0..S::LANES)
            .map(|_| draw.uniform_f32() * 16.0 - 8.0)
            .collect()
    };
    for _ in 0..100 {
        let (x, y, z) = (vector(), vector(), vector());
        let lanes = |v: S::V| {
            let mut out = vec![0.0; S::LANES];
            unsafe { S::store(out.as_mut_ptr(), v) };
            out
        };
        let each = |f: &dyn Fn(usize) -> f32| -> Vec<f32> { (0..S::LANES).map(f).collect() };
        unsafe {
            let (a, b, c) = (
                S::load(x.as_ptr()),
                S::load(y.as_ptr()),
                S::load(z.as_ptr()),
            );
            assert_eq!(lanes(S::splat(x[0])), each(&|_| x[0]));
            assert_eq!(lanes(S::add(a, b)), each(&|i| x[i] + y[i]));
            assert_eq!(lanes(S::sub(a, b)), each(&|i| x[i] - y[i]));
            assert_eq!(lanes(S::mul(a, b)), each(&|i| x[i] * y[i]));
            assert_eq!(lanes(S::div(a, b)), each(&|i| x[i] / y[i]));
            assert_eq!(lanes(S::max(a, b)), each(&|i| x[i].max(y[i])));
            assert_eq!(lanes(S::min(a, b)), each(&|i| x[i].min(y[i])));
            assert_eq!(lanes(S::abs(a)), each(&|i| x[i].abs()));
            assert_eq!(lanes(S::sqrt(S::abs(a))), each(&|i| x[i].abs().sqrt()));
            assert_eq!(lanes(S::round(a)), each(&|i| x[i].round_ties_even()));
            let less = S::select_less(a, b, c, a);
            assert_eq!(
                lanes(less),
                each(&|i| if x[i] < y[i] { z[i] } else { x[i] })
            );
            let scaled = S::scale_by_power(a, S::round(b));
            assert_eq!(
                lanes(scaled),
                each(&|i| x[i] * y[i].round_ties_even().exp2())
            );
            // Rounded once or twice.
            let sums = lanes(S::mul_add(a, b, c));
            for i in 0..S::LANES {
                let exact = f64::from(x[i]) * f64::from(y[i]) + f64::from(z[i]);
                assert!((f64::from(sums[i]) - exact).abs() < 1e-5, "{exact}");
            }
            // In pairs of lanes that are half a vector apart.
            let mut sum = x.clone();
            while sum.len() > 1 {
                let half = sum.split_off(sum.len() / 2);
                sum.iter_mut().zip(half).for_each(|(a, b)| *a += b);
            }
            assert_eq!(S::sum(a), sum[0]);
            assert_eq!(S::max_lane(a), x.iter().copied().fold(f32::MIN, f32::max));
            for n in 0..=S::LANES {
                let first = S::load_first(x.as_ptr(), n);
                assert_eq!(lanes(first), each(&|i| if i < n { x[i] } else { 0.0 }));
                let mut out = vec![9.0; S::LANES];
                S::store_first(out.as_mut_ptr(), a, n);
                assert_eq!(out, each(&|i| if i < n { x[i] } else { 9.0 }));
            }
        }
    }
    transposes::<S>();
}

fn transposes<S: Simd>() {
    let (stride, to_stride) = (S::LANES + 3, S::LANES + 5);
    let from: Vec<f32> = (0..S::LANES * stride).map(|i| i as f32).collect();
    for rows in 0..=S::LANES {
        for cols in 0..=S::LANES {
            let mut to = vec![-1.0; S::LANES * to_stride];
            unsafe {
                S::transpose(
                    from.as_ptr(),
                    stride,
                    rows,
                    cols,
                    to.as_mut_ptr(),
                    to_stride,
                )
            };
            for col in 0..S::LANES {
                for lane in 0..to_stride {
                    let expected = match (col < cols, lane) {
                        (true, lane) if lane < rows => from[lane * stride + col],
                        (true, lane) if lane < S::LANES => 0.0,
                        _ => -1.0,
                    };
                    assert_eq!(
                        to[col * to_stride + lane],
                        expected,
                        "{rows} {cols} {col} {lane}"
                    );
                }
            }
        }
    }
}

#[test]
fn plain_rust() {
    check::<Portable>();
    check::<Wide<Portable, 2>>();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn x86() {
    if Isa::Avx512.is_available() {
        check::<Avx512>();
    }
    if Isa::Avx2.is_available() {
        check::<Avx2>();
        check::<Wide<Avx2, 2>>();
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn arm() {
    assert!(Isa::Neon.is_available());
    check::<Neon>();
    check::<Wide<Neon, 2>>();
    check::<Wide<Neon, 4>>();
}
