//! Ridge regression: the linear function of many features with the least squared error.

/// Sums over samples from which the function follows, in f64. The last feature is always one.
#[derive(Clone, Debug)]
pub(crate) struct Ridge {
    features: usize,
    /// Products of features, `[features + 1][features + 1]`; filled on and below the diagonal.
    products: Vec<f64>,
    /// Products of features and label.
    labelled: Vec<f64>,
    /// Sums of labels and of their squares.
    label: f64,
    squared: f64,
    samples: usize,
}

/// A fitted function.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) weights: Vec<f64>,
    pub(crate) bias: f64,
    /// Share of the labels' variance that it explains where it was fitted.
    pub(crate) explained: f64,
}

impl Line {
    pub(crate) fn at(&self, features: &[f32]) -> f64 {
        let terms = self.weights.iter().zip(features);
        self.bias + terms.map(|(w, x)| w * f64::from(*x)).sum::<f64>()
    }
}

impl Ridge {
    pub(crate) fn new(features: usize) -> Self {
        let size = features + 1;
        Self {
            features,
            products: vec![0.0; size * size],
            labelled: vec![0.0; size],
            label: 0.0,
            squared: 0.0,
            samples: 0,
        }
    }

    pub(crate) fn add(&mut self, features: &[f32], label: f64) {
        let size = self.features + 1;
        let value = |at: usize| features.get(at).map_or(1.0, |x| f64::from(*x));
        for row in 0..size {
            let x = value(row);
            let products = &mut self.products[row * size..][..row + 1];
            for (at, product) in products.iter_mut().enumerate() {
                *product += x * value(at);
            }
            self.labelled[row] += x * label;
        }
        self.label += label;
        self.squared += label * label;
        self.samples += 1;
    }

    /// The function whose weights, but for the bias, are held small by `penalty` times their squares, for each sample.
    /// `None` where the samples do not determine it.
    pub(crate) fn solve(&self, penalty: f64) -> Option<Line> {
        let size = self.features + 1;
        let mut lower = self.products.clone();
        for at in 0..self.features {
            lower[at * size + at] += penalty * self.samples as f64;
        }
        cholesky(&mut lower, size)?;
        let mut solution = self.labelled.clone();
        for row in 0..size {
            let known: f64 = (0..row)
                .map(|at| lower[row * size + at] * solution[at])
                .sum();
            solution[row] = (solution[row] - known) / lower[row * size + row];
        }
        for row in (0..size).rev() {
            let known: f64 = (row + 1..size)
                .map(|at| lower[at * size + row] * solution[at])
                .sum();
            solution[row] = (solution[row] - known) / lower[row * size + row];
        }
        let variance = self.squared - self.label * self.label / self.samples as f64;
        let explained = solution.iter().zip(&self.labelled);
        // The squared error of a solution w is yᵀy - 2wᵀXᵀy + wᵀXᵀXw.
        let explained: f64 = 2.0 * explained.map(|(w, xy)| w * xy).sum::<f64>()
            - self.quadratic(&solution)
            - self.label * self.label / self.samples as f64;
        let bias = solution.pop()?;
        Some(Line {
            weights: solution,
            bias,
            explained: explained / variance.max(f64::MIN_POSITIVE),
        })
    }

    /// `wᵀ · products · w`.
    fn quadratic(&self, w: &[f64]) -> f64 {
        let size = self.features + 1;
        let mut sum = 0.0;
        for row in 0..size {
            for at in 0..=row {
                let twice = if at == row { 1.0 } else { 2.0 };
                sum += twice * self.products[row * size + at] * w[row] * w[at];
            }
        }
        sum
    }
}

/// Turns the lower half of a symmetric matrix into the `L` of its `L · Lᵀ`; `None` unless it is positive definite.
fn cholesky(matrix: &mut [f64], size: usize) -> Option<()> {
    for row in 0..size {
        for at in 0..=row {
            let (left, right) = (row * size, at * size);
            let known: f64 = (0..at).map(|k| matrix[left + k] * matrix[right + k]).sum();
            let rest = matrix[left + at] - known;
            matrix[left + at] = if at < row {
                rest / matrix[right + at]
            } else if rest > 0.0 {
                rest.sqrt()
            } else {
                return None;
            };
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mor_math::SplitMix64;

    #[test]
    fn finds_the_line_behind_noise() {
        let (weights, bias) = ([0.5, -2.0, 0.0], 3.0);
        let mut draw = SplitMix64::new(1);
        let mut ridge = Ridge::new(3);
        for _ in 0..2000 {
            let x: Vec<f32> = (0..3).map(|_| draw.uniform() as f32).collect();
            let y: f64 = x.iter().zip(weights).map(|(x, w)| f64::from(*x) * w).sum();
            ridge.add(&x, y + bias + 0.01 * (draw.uniform() - 0.5));
        }
        let line = ridge.solve(1e-9).expect("determined");
        for (found, weight) in line.weights.iter().zip(weights) {
            assert!((found - weight).abs() < 1e-3, "{found} is not {weight}");
        }
        assert!((line.bias - bias).abs() < 1e-3);
        assert!(line.explained > 0.999, "{}", line.explained);
        let value = line.at(&[1.0, 1.0, 1.0]);
        assert!((value - 1.5).abs() < 2e-3, "{value}");
    }

    #[test]
    fn what_is_not_determined_has_no_line() {
        assert!(Ridge::new(2).solve(0.0).is_none());
    }
}
