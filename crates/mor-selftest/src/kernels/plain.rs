//! What kernels should compute, in f64 and by the formulas.

use super::operands::Matrix;

/// `weights · x`.
pub(super) fn product(weights: &Matrix, x: &[f32]) -> Vec<f64> {
    let dot = |row: &[f32]| {
        let pairs = row.iter().zip(x);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    weights.rows().map(dot).collect()
}

/// The exact GELU, with the error function by its series (Abramowitz and Stegun 1964, formula 7.1.6).
pub(super) fn activated(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    // Beyond this it is 1 to the last bit.
    let clamped = z.clamp(-6.0, 6.0);
    let (mut term, mut sum) = (clamped, clamped);
    for n in 1..200 {
        term *= 2.0 * clamped * clamped / f64::from(2 * n + 1);
        sum += term;
    }
    let erf = std::f64::consts::FRAC_2_SQRT_PI * (-clamped * clamped).exp() * sum;
    x * (1.0 + erf) / 2.0
}

/// Layer norm of a row; of gain and bias the first values count.
pub(super) fn normalised(x: &[f32], gain: &[f32], bias: &[f32], eps: f32) -> Vec<f64> {
    let count = x.len() as f64;
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let squares = x.iter().map(|x| (f64::from(*x) - mean).powi(2));
    let scale = (squares.sum::<f64>() / count + f64::from(eps))
        .sqrt()
        .recip();
    let affine = gain.iter().zip(bias);
    let all = x.iter().zip(affine);
    all.map(|(x, (gain, bias))| {
        (f64::from(*x) - mean) * scale * f64::from(*gain) + f64::from(*bias)
    })
    .collect()
}

/// Attention of one head's query to keys and values.
pub(super) fn attended(query: &[f32], pairs: Vec<(Vec<f32>, Vec<f32>)>) -> Vec<f64> {
    let factor = (query.len() as f64).sqrt().recip();
    let score = |key: &[f32]| {
        let products = query.iter().zip(key);
        let sum: f64 = products.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
        (sum * factor).exp()
    };
    let mut mixed = vec![0.0; query.len()];
    let mut total = 0.0;
    for (key, value) in &pairs {
        let weight = score(key);
        total += weight;
        for (mixed, value) in mixed.iter_mut().zip(value) {
            *mixed += weight * f64::from(*value);
        }
    }
    mixed.iter_mut().for_each(|x| *x /= total);
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_give_known_values() {
        for (x, y) in [
            (0.0, 0.0),
            (1.0, 0.841_344_746),
            (-1.0, -0.158_655_254),
            (9.0, 9.0),
        ] {
            assert!((activated(x) - y).abs() < 1e-9, "{x}: {}", activated(x));
        }
        let norm = normalised(&[1.0, 3.0], &[1.0, 2.0], &[0.5, 0.0], 0.0);
        assert_eq!(norm, [-0.5, 2.0]);
        let pairs = vec![(vec![0.0], vec![1.0]), (vec![0.0], vec![4.0])];
        assert_eq!(attended(&[3.0], pairs), [2.5]);
    }
}
