//! Consecutive steps, summed up.

use crate::metrics::StepMetrics;

/// Most depths or classes that are told apart; whatever lies above counts to the last.
pub(crate) const MAX_CLASSES: usize = 8;

/// A number that each step may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    Loss,
    BitsPerByte,
    LearningRate,
    GradientNorm,
    TokensPerSecond,
    Depth,
    RouterLoss,
    RowPerplexity,
    LossScale,
}

const QUANTITIES: usize = Quantity::LossScale as usize + 1;

/// Mean and range of a quantity over the steps where it was a finite number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) count: u64,
    sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Default for Stat {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }
}

impl Stat {
    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.merge(Self {
                count: 1,
                sum: value,
                min: value,
                max: value,
            });
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The mean, where there was any number.
    pub(crate) fn mean(&self) -> Option<f64> {
        let mean = self.sum / self.count as f64;
        (self.count > 0 && mean.is_finite()).then_some(mean)
    }
}

/// How often each depth or class occurred, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) [u64; MAX_CLASSES]);

impl Counts {
    pub(crate) fn add(&mut self, counts: &[u64]) {
        for (class, count) in counts.iter().enumerate() {
            let sum = &mut self.0[class.min(MAX_CLASSES - 1)];
            *sum = sum.saturating_add(*count);
        }
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The mean depth, where any was counted.
    pub(crate) fn mean(&self) -> Option<f64> {
        let weighted: f64 = (0..)
            .zip(self.0)
            .map(|(d, n)| f64::from(d) * n as f64)
            .sum();
        (self.total() > 0).then(|| weighted / self.total() as f64)
    }
}

/// Some consecutive steps.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// Its first step.
    pub(crate) first: u64,
    /// Its last step.
    pub(crate) last: u64,
    /// Tokens learned from at its end.
    pub(crate) tokens: u64,
    /// Seconds of training at its end.
    pub(crate) seconds: f64,
    /// Whether a step was skipped.
    pub(crate) skipped: bool,
    /// Whether the loss leapt.
    pub(crate) spike: bool,
    /// Depths taken.
    pub(crate) depths: Counts,
    /// Rows by the class that the router chose.
    pub(crate) classes: Counts,
    /// Rows by pseudo-class.
    pub(crate) targets: Counts,
    stats: [Stat; QUANTITIES],
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            first: u64::MAX,
            last: 0,
            tokens: 0,
            seconds: 0.0,
            skipped: false,
            spike: false,
            depths: Counts::default(),
            classes: Counts::default(),
            targets: Counts::default(),
            stats: [Stat::default(); QUANTITIES],
        }
    }
}

impl Bucket {
    /// Adds a step.
    pub(crate) fn add(&mut self, step: &StepMetrics) {
        self.first = self.first.min(step.step);
        self.last = self.last.max(step.step);
        self.tokens = self.tokens.max(step.tokens);
        self.seconds = self.seconds.max(step.seconds);
        self.skipped |= step.skipped;
        self.spike |= step.spike;
        self.depths.add(&step.depths);
        for (quantity, value) in [
            (Quantity::Loss, step.loss),
            (Quantity::BitsPerByte, step.bits_per_byte),
            (Quantity::LearningRate, step.learning_rate),
            (Quantity::GradientNorm, step.gradient_norm),
            (Quantity::TokensPerSecond, step.tokens_per_second),
            (Quantity::Depth, step.depth),
        ] {
            self.stats[quantity as usize].add(value);
        }
        if let Some(router) = &step.router {
            self.classes.add(&router.classes);
            self.targets.add(&router.targets);
            self.stats[Quantity::RouterLoss as usize].add(router.loss);
            self.stats[Quantity::RowPerplexity as usize].add(router.perplexity);
        }
        if let Some(scale) = step.loss_scale {
            self.stats[Quantity::LossScale as usize].add(scale);
        }
    }

    /// Adds the steps of another bucket.
    pub(crate) fn merge(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.tokens = self.tokens.max(other.tokens);
        self.seconds = self.seconds.max(other.seconds);
        self.skipped |= other.skipped;
        self.spike |= other.spike;
        self.depths.add(&other.depths.0);
        self.classes.add(&other.classes.0);
        self.targets.add(&other.targets.0);
        for (stat, other) in self.stats.iter_mut().zip(other.stats) {
            stat.merge(other);
        }
    }

    /// A quantity over its steps.
    pub(crate) fn get(&self, quantity: Quantity) -> &Stat {
        &self.stats[quantity as usize]
    }

    /// The step in its middle, where charts put it.
    pub(crate) fn middle(&self) -> f64 {
        self.first as f64 / 2.0 + self.last as f64 / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_beyond_the_last_count_to_it() {
        let mut counts = Counts::default();
        counts.add(&[1; 20]);
        assert_eq!(counts.0[0], 1);
        assert_eq!(counts.0[MAX_CLASSES - 1], 20 - (MAX_CLASSES as u64 - 1));
        counts.add(&[u64::MAX]);
        assert_eq!(counts.total(), u64::MAX);
    }

    #[test]
    fn numbers_that_are_not_finite_do_not_spoil_the_mean() {
        let mut stat = Stat::default();
        for value in [1.0, f64::NAN, 3.0, f64::INFINITY] {
            stat.add(value);
        }
        assert_eq!(stat.mean(), Some(2.0));
        assert_eq!((stat.min, stat.max), (1.0, 3.0));
    }
}
