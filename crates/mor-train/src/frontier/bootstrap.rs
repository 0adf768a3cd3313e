//! How certain a difference is.

use mor_math::SplitMix64;

/// Times that sequences are drawn anew.
const DRAWS: usize = 1000;

/// Bits per byte by the `nats` of sequences, their difference to what `base` gives, and the interval that 95 of 100
/// differences lie in when sequences are drawn anew, the same for both (paired bootstrap, Efron & Tibshirani 1993).
pub(super) fn difference(nats: &[f64], base: &[f64], bytes: &[f64]) -> (f64, f64, [f64; 2]) {
    let bits = |nats: f64, bytes: f64| nats / std::f64::consts::LN_2 / bytes.max(1.0);
    let total: f64 = bytes.iter().sum();
    let found = bits(nats.iter().sum(), total);
    let delta = found - bits(base.iter().sum(), total);
    let mut draw = SplitMix64::new(1);
    let mut drawn: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let (mut more, mut over) = (0.0, 0.0);
            for _ in 0..nats.len() {
                let at = draw.below(nats.len());
                more += nats[at] - base[at];
                over += bytes[at];
            }
            bits(more, over)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn[((DRAWS - 1) as f64 * share).round() as usize];
    (found, delta, [at(0.025), at(0.975)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_difference_and_narrows_with_more_text() {
        let width = |count: usize| {
            let mut draw = SplitMix64::new(7);
            let base: Vec<f64> = (0..count).map(|_| 50.0 + 10.0 * draw.uniform()).collect();
            let nats: Vec<f64> = base.iter().map(|x| x + 1.0 + draw.uniform()).collect();
            let (_, delta, [low, high]) = difference(&nats, &base, &vec![100.0; count]);
            assert!(low < delta && delta < high && low > 0.0);
            high - low
        };
        assert!(width(400) < 0.7 * width(50));
        let (_, delta, ci) = difference(&[1.0, 2.0], &[1.0, 2.0], &[3.0, 4.0]);
        assert_eq!((delta, ci), (0.0, [0.0, 0.0]));
    }
}
