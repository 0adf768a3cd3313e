//! A small random number generator, the same on every platform.

/// PCG-XSH-RR 64/32 (O'Neill 2014).
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    state: u64,
}

const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
const INCREMENT: u64 = 1_442_695_040_888_963_407;

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Self {
            state: seed.wrapping_add(INCREMENT),
        };
        rng.next_u32();
        rng
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        let old = self.state;
        self.state = old.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        let shifted = (((old >> 18) ^ old) >> 27) as u32;
        shifted.rotate_right((old >> 59) as u32)
    }

    /// Uniform in `[0, 1)`, in steps of 2⁻²⁴.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / 16_777_216.0
    }
}

/// Values for a tensor of a random model: gains 1, vectors 0, matrices uniform with the variance
/// `1 / inputs` that keeps activations at their size.
pub(crate) fn tensor(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let len = shape.iter().product();
    if shape.len() < 2 {
        // Only layer norms have weights of one dimension.
        let gain = if name.ends_with(".weight") { 1.0 } else { 0.0 };
        return vec![gain; len];
    }
    // FNV-1a: each tensor draws its own numbers, whatever the order of loading.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut rng = Rng::new(seed ^ hash);
    let limit = (3.0 / shape[1] as f32).sqrt();
    (0..len)
        .map(|_| (2.0 * rng.uniform() - 1.0) * limit)
        .collect()
}
