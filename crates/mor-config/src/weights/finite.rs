//! Whether the numbers of a tensor are finite: one that is not spoils everything that a model computes.

use half::{bf16, f16};

/// Floats as a weights file holds them, little-endian.
#[derive(Clone, Copy, Debug)]
pub enum Floats<'a> {
    /// 32 bits each.
    F32(&'a [[u8; 4]]),
    /// 16 bits each, of which 10 are of the fraction.
    F16(&'a [[u8; 2]]),
    /// 16 bits each, of which 7 are of the fraction.
    Bf16(&'a [[u8; 2]]),
}

impl Floats<'_> {
    /// The largest magnitude: infinite, or NaN, where a value is; 0 of none. Without the sign, floats are in the order
    /// of their bits, infinity and NaN last, so this is a maximum of integers, which costs little beside reading them.
    pub fn largest(self) -> f32 {
        const SIGN: u16 = 1 << 15;
        let largest = |values: &[[u8; 2]]| {
            let bits = values
                .iter()
                .map(|bytes| u16::from_le_bytes(*bytes) & !SIGN);
            bits.fold(0, u16::max)
        };
        match self {
            Self::F32(values) => {
                let bits = values.iter().map(|bytes| u32::from_le_bytes(*bytes));
                f32::from_bits(bits.fold(0, |most, bits| most.max(bits & !(1 << 31))))
            }
            Self::F16(values) => f16::from_bits(largest(values)).to_f32(),
            Self::Bf16(values) => bf16::from_bits(largest(values)).to_f32(),
        }
    }

    /// The values, and the largest magnitude among them: each portion is looked at while it is in the cache.
    pub(super) fn widened(self) -> (Vec<f32>, f32) {
        match self {
            Self::F32(all) => widen(all, |part| Floats::F32(part).largest(), f32::from_le_bytes),
            Self::F16(all) => {
                let value = |bytes| f16::from_le_bytes(bytes).to_f32();
                widen(all, |part| Floats::F16(part).largest(), value)
            }
            Self::Bf16(all) => {
                let value = |bytes| bf16::from_le_bytes(bytes).to_f32();
                widen(all, |part| Floats::Bf16(part).largest(), value)
            }
        }
    }
}

/// Values that are widened at once.
const PORTION: usize = 4096;

fn widen<const N: usize>(
    all: &[[u8; N]],
    largest: impl Fn(&[[u8; N]]) -> f32,
    value: impl Fn([u8; N]) -> f32,
) -> (Vec<f32>, f32) {
    let mut values = Vec::with_capacity(all.len());
    // As bits, since the maximum of floats passes over what is not a number.
    let mut most = 0;
    for part in all.chunks(PORTION) {
        most = most.max(largest(part).to_bits());
        values.extend(part.iter().map(|bytes| value(*bytes)));
    }
    (values, f32::from_bits(most))
}

/// The largest magnitude of `values`: infinite, or NaN, where one is; 0 of none.
pub fn largest_magnitude(values: &[f32]) -> f32 {
    let bits = values.iter().map(|value| value.abs().to_bits());
    f32::from_bits(bits.fold(0, u32::max))
}

/// What is wrong with a tensor whose values have this largest magnitude; nothing if they are finite.
pub fn not_finite(tensor: &str, largest: f32) -> Option<String> {
    let problem =
        || format!("tensor `{tensor}` holds {largest}, no finite number; use other weights");
    (!largest.is_finite()).then(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_magnitude_is_found_in_each_type() {
        for (values, expected) in [
            (vec![], 0.0),
            (vec![0.5, -3.0, 2.0], 3.0),
            (vec![1.0, f32::NEG_INFINITY, 2.0], f32::INFINITY),
            (vec![f32::INFINITY, -f32::NAN, 2.0], f32::NAN),
        ] {
            let f32s: Vec<_> = values.iter().map(|x| x.to_le_bytes()).collect();
            let halves = values.iter().map(|x| f16::from_f32(*x).to_le_bytes());
            let halves: Vec<_> = halves.collect();
            let brains = values.iter().map(|x| bf16::from_f32(*x).to_le_bytes());
            let brains: Vec<_> = brains.collect();
            for largest in [
                largest_magnitude(&values),
                Floats::F32(&f32s).largest(),
                Floats::F16(&halves).largest(),
                Floats::Bf16(&brains).largest(),
            ] {
                let same = largest == expected || largest.is_nan() && expected.is_nan();
                assert!(same, "{largest} is not {expected} in {values:?}");
            }
        }
    }
}
