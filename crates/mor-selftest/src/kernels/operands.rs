//! What kernels are given.

use half::f16;
use mor_config::{QUANTIZED_BLOCK, quantize_block};
pub(super) use mor_model::operations::noise;
use mor_shaders::Storage;

/// Values as a buffer holds them.
pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// As many numbers as count, and zeros after them.
pub(super) fn padded(count: usize, len: usize, seed: usize) -> Vec<f32> {
    let mut values = noise(count, seed);
    values.resize(len, 0.0);
    values
}

/// Weights in a storage.
pub(super) struct Matrix {
    /// Their numbers, `[rows][columns]`, as the storage holds them.
    values: Vec<f32>,
    columns: usize,
    /// As a buffer holds them.
    pub(super) words: Vec<u32>,
}

impl Matrix {
    /// Random ones: `count` of a row are not zero, and `columns`, a multiple of 32, are stored.
    pub(super) fn new(rows: usize, count: usize, columns: usize, storage: Storage) -> Self {
        let exact = (0..rows).flat_map(|row| padded(count, columns, 100 + row));
        let exact: Vec<f32> = exact.collect();
        let (values, words) = match storage {
            Storage::F32 => (exact.clone(), bits(&exact)),
            Storage::F16 => {
                let halves: Vec<f16> = exact.iter().map(|x| f16::from_f32(*x)).collect();
                let values = halves.iter().map(|x| x.to_f32()).collect();
                (values, pairs(&halves))
            }
            Storage::Q8 => quantized(&exact),
        };
        Self {
            values,
            columns,
            words,
        }
    }

    /// A row's numbers.
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }

    /// All rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns)
    }
}

/// Two numbers a word.
fn pairs(halves: &[f16]) -> Vec<u32> {
    let word = |pair: &[f16]| {
        let high = pair.get(1).map_or(0, |high| u32::from(high.to_bits()));
        u32::from(pair[0].to_bits()) | high << 16
    };
    halves.chunks(2).map(word).collect()
}

/// Four numbers a word, then the scales of all blocks.
fn quantized(exact: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let (mut values, mut words, mut scales) = (Vec::new(), Vec::new(), Vec::new());
    for block in exact.chunks(QUANTIZED_BLOCK) {
        let mut rounded = [0_i8; QUANTIZED_BLOCK];
        let scale = quantize_block(block, &mut rounded);
        values.extend(rounded.iter().map(|x| f32::from(*x) * scale.to_f32()));
        let fours = rounded.chunks_exact(4);
        words.extend(fours.map(|four| {
            let bytes = [0, 1, 2, 3].map(|at: usize| four[at].cast_unsigned());
            u32::from_le_bytes(bytes)
        }));
        scales.push(scale);
    }
    words.extend(pairs(&scales));
    (values, words)
}
