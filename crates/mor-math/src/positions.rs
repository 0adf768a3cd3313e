//! Positions as angles.

/// The angle by which pair `pair` of `width` values stands or turns at `position`: `position · base^(-2 · pair / width)`,
/// in radians (Vaswani et al. 2017 for sinusoidal positions, Su et al. 2021 for rotary ones).
///
/// In f64: at position 1000 an f32 angle has lost three digits.
///
/// ```
/// // The first pair turns by one radian a position, the last hardly at all.
/// assert_eq!(mor_math::angle(3, 0, 64, 10_000.0), 3.0);
/// assert!(mor_math::angle(3, 31, 64, 10_000.0) < 0.001);
/// ```
pub fn angle(position: usize, pair: usize, width: usize, base: f64) -> f64 {
    position as f64 * base.powf(-2.0 * pair as f64 / width as f64)
}
