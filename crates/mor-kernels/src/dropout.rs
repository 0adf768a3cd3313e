//! Dropout with a mask that is computed from a seed, so that the backward pass repeats it instead of keeping it.

use crate::profile::{Kernel, timer};
use rayon::prelude::*;

use crate::check::check_len;
use mor_math::SplitMix64;

/// Numbers that share a stream, and that one task handles.
const CHUNK: usize = 4096;

/// `y = 0` with `probability`, else `x / (1 - probability)`; a pure function of `seed` and place (Srivastava et al. 2014,
/// "Dropout: a simple way to prevent neural networks from overfitting"). The gradient of `x` is the same function of
/// that of `y`. `x` and `y` have the same length.
pub fn dropout(x: &[f32], probability: f32, seed: u64, y: &mut [f32]) {
    let _timer = timer(Kernel::Dropout);
    check_len("y", y, &[x.len()]);
    let scale = 1.0 / (1.0 - probability);
    // Exact at both ends of the range: a probability of 0 drops nothing.
    let threshold = (f64::from(probability) * f64::from(u32::MAX)) as u32;
    let chunks = y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate();
    chunks.for_each(|(chunk, (y, x))| {
        let of_chunk = SplitMix64::new(chunk as u64).next_u64();
        let stream = SplitMix64::new(seed ^ of_chunk).next_u64();
        let (low, high) = (stream as u32, (stream >> 32) as u32);
        for (place, (y, x)) in y.iter_mut().zip(x).enumerate() {
            let kept = hash((place as u32 ^ low).wrapping_add(high)) >= threshold;
            *y = if kept { x * scale } else { 0.0 };
        }
    });
}

/// A mixing function of 32 bits with little bias (Wellons 2018, "Prospecting for hash functions").
#[inline(always)]
fn hash(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(len: usize, probability: f32, seed: u64) -> Vec<f32> {
        let mut y = vec![9.0; len];
        dropout(&vec![1.0; len], probability, seed, &mut y);
        y
    }

    #[test]
    fn drops_its_share_and_keeps_the_mean() {
        for probability in [0.1, 0.5, 0.9] {
            let y = dropped(1_000_000, probability, 7);
            let zeros = y.iter().filter(|y| **y == 0.0).count() as f32 / 1e6;
            assert!((zeros - probability).abs() < 2e-3, "{zeros}");
            let mean = y.iter().map(|y| f64::from(*y)).sum::<f64>() / 1e6;
            assert!((mean - 1.0).abs() < 2e-2, "{mean}");
            // Neighbours, and places a chunk apart, are independent.
            for apart in [1, 2, 16, CHUNK] {
                let both = y.windows(apart + 1);
                let both = both.filter(|w| w[0] == 0.0 && w[apart] == 0.0).count() as f32;
                assert!(
                    (both / 1e6 - probability * probability).abs() < 3e-3,
                    "{apart}"
                );
            }
        }
        assert!(dropped(10_000, 0.0, 7).iter().all(|y| *y == 1.0));
    }

    #[test]
    fn depends_on_the_seed_alone() {
        assert_eq!(dropped(9_000, 0.3, 1), dropped(9_000, 0.3, 1));
        assert_ne!(dropped(9_000, 0.3, 1), dropped(9_000, 0.3, 2));
        assert_eq!(dropped(5_000, 0.3, 1), dropped(9_000, 0.3, 1)[..5_000]);
    }
}
