//! Numbers drawn from a seed: the same on every platform and in every version, so that a seed keeps its meaning.

/// SplitMix64 (Steele, Lea and Flood 2014): a counter through a strong mixing function.
///
/// ```
/// use mor_math::SplitMix64;
///
/// let mut draw = SplitMix64::new(7);
/// let numbers = [draw.uniform(), draw.uniform()];
/// let mut again = SplitMix64::new(7);
/// assert_eq!(numbers, [again.uniform(), again.uniform()]);
/// ```
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl SplitMix64 {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Numbers of their own for every pair of seed and purpose.
    pub fn of_stream(seed: u64, stream: u64) -> Self {
        Self(mix(seed ^ mix(stream.wrapping_add(STEP))))
    }

    /// Any number of 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Uniform in `[0, 1)`, in steps of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `[0, 1)`, in steps of 2⁻²⁴.
    pub fn uniform_f32(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// Uniform in `0..bound` (0 for an empty range), without modulo bias worth speaking of.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Puts `items` into a random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.below(end + 1);
            items.swap(end, other);
        }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a of 64 bits (Fowler, Noll and Vo): a seed for each name, whatever the order in which names come.
///
/// ```
/// assert_eq!(mor_math::fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
/// ```
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_paper() {
        // What the reference implementation gives for the seed 1234567.
        let mut draw = SplitMix64::new(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(expected, std::array::from_fn(|_| draw.next_u64()));
    }

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, stream| SplitMix64::of_stream(seed, stream).next_u64();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn uniform_numbers_stay_below_one() {
        let mut draw = SplitMix64::new(3);
        for _ in 0..10_000 {
            assert!((0.0..1.0).contains(&draw.uniform()));
            assert!((0.0..1.0).contains(&draw.uniform_f32()));
        }
    }

    #[test]
    fn shuffles_without_loss() {
        let mut items: Vec<_> = (0..100).collect();
        SplitMix64::of_stream(7, 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
