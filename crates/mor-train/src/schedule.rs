//! The learning rate as a function of progress, and progress as a function of steps, epochs or time.

use serde::{Deserialize, Serialize};

/// How long a run lasts. Exactly one measure counts; progress runs from 0 to 1 along it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// So many optimizer steps.
    Steps(u64),
    /// So many passes over the data; fractions are allowed.
    Epochs(f64),
    /// So many minutes of training, validation included, summed over resumed sessions.
    Minutes(f64),
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// Optimizer steps taken.
    pub step: u64,
    /// Passes over the data, with the finished fraction of the current one.
    pub epochs: f64,
    /// Seconds of training so far, over all sessions.
    pub seconds: f64,
}

impl Budget {
    /// The finished share of the budget, from 0 to 1.
    pub fn progress(self, at: Position) -> f64 {
        let share = match self {
            Self::Steps(steps) => at.step as f64 / steps as f64,
            Self::Epochs(epochs) => at.epochs / epochs,
            Self::Minutes(minutes) => at.seconds / (minutes * 60.0),
        };
        share.clamp(0.0, 1.0)
    }

    /// Whether the budget is used up.
    pub fn is_spent(self, at: Position) -> bool {
        match self {
            Self::Steps(steps) => at.step >= steps,
            // An epoch's fraction is a quotient of whole numbers; do not let rounding add a step.
            Self::Epochs(epochs) => at.epochs >= epochs - 1e-9,
            Self::Minutes(minutes) => at.seconds >= minutes * 60.0,
        }
    }
}

/// Shape of the decay after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine.
    Cosine,
    /// A straight line.
    Linear,
    /// Constant, then a straight line over the last part (`decay_fraction`); also known as
    /// warm-up, stable, decay.
    Trapezoid,
}

/// Learning rate over a run: a linear warm-up to the peak, then a decay to `floor · peak`.
///
/// ```
/// use mor_train::schedule::{Decay, Moment, Schedule};
///
/// let schedule = Schedule {
///     peak: 1e-3,
///     warmup: 0.1,
///     warmup_steps: None,
///     decay: Decay::Linear,
///     decay_fraction: 0.4,
///     floor: 0.0,
///     after_step: false,
/// };
/// let at = |progress| schedule.factor(Moment { step: 1, progress, resolution: 0.0 });
/// assert!((at(0.05) - 0.5).abs() < 1e-9, "half way up");
/// assert!((at(0.55) - 0.5).abs() < 1e-9, "half way down");
/// assert_eq!(at(1.0), 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Largest learning rate.
    pub peak: f64,
    /// Share of the run spent warming up.
    pub warmup: f64,
    /// Steps spent warming up, in place of the share.
    pub warmup_steps: Option<u64>,
    /// Shape of what follows.
    pub decay: Decay,
    /// Share of the run that a trapezoid decays over.
    pub decay_fraction: f64,
    /// Learning rate at the end, as a share of the peak.
    pub floor: f64,
    /// Whether the rate is set after each step: the first step has the peak's, each later one the rate that the step
    /// before should have had.
    pub after_step: bool,
}

/// A moment of a run, as schedules see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Steps taken.
    pub step: u64,
    /// Finished share of the budget, in `[0, 1]`.
    pub progress: f64,
    /// About the share of the budget that one step takes.
    pub resolution: f64,
}

impl Schedule {
    /// The learning rate of the step that begins at `moment`, relative to the peak.
    pub fn factor(&self, moment: Moment) -> f64 {
        let progress = moment.progress.clamp(0.0, 1.0);
        if self.after_step && moment.step == 0 {
            return 1.0;
        }
        // The first step of a warm-up already learns something, unless rates come a step late.
        let (steps, ahead) = match self.after_step {
            true => (moment.step, 0.0),
            false => (moment.step + 1, moment.resolution),
        };
        let warmup = match self.warmup_steps {
            Some(warmup) if moment.step < warmup => {
                return (steps as f64 / warmup as f64).min(1.0);
            }
            // The share that these steps took.
            Some(warmup) => progress * warmup as f64 / moment.step.max(1) as f64,
            None => self.warmup,
        };
        if progress < warmup {
            return ((progress + ahead) / warmup).min(1.0);
        }
        let rest = 1.0 - warmup;
        let decayed = match self.decay {
            _ if rest <= 0.0 => 0.0,
            Decay::Cosine => {
                let t = (progress - warmup) / rest;
                0.5 * (1.0 + (std::f64::consts::PI * t).cos())
            }
            Decay::Linear => (1.0 - progress) / rest,
            Decay::Trapezoid => ((1.0 - progress) / self.decay_fraction).min(1.0),
        };
        self.floor + (1.0 - self.floor) * decayed
    }

    /// The learning rate at `moment`; see [`Self::factor`].
    pub fn learning_rate(&self, moment: Moment) -> f64 {
        self.peak * self.factor(moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn cosine() -> Schedule {
        Schedule {
            peak: 5e-4,
            warmup: 0.05,
            warmup_steps: None,
            decay: Decay::Cosine,
            decay_fraction: 0.0,
            floor: 0.1,
            after_step: false,
        }
    }

    fn at(step: u64, progress: f64, resolution: f64) -> Moment {
        Moment {
            step,
            progress,
            resolution,
        }
    }

    #[test]
    fn warms_up_then_decays_to_the_floor() {
        let schedule = cosine();
        let rate =
            |progress| schedule.learning_rate(at((progress * 1000.0) as u64, progress, 0.001));
        assert_relative_eq!(rate(0.0), 5e-4 * 0.02);
        assert_relative_eq!(rate(0.025), 5e-4 * 0.52);
        assert_relative_eq!(rate(0.05), 5e-4);
        assert_relative_eq!(rate(0.525), 5e-4 * 0.55, epsilon = 1e-12);
        assert_relative_eq!(rate(1.0), 5e-5, epsilon = 1e-12);
    }

    #[test]
    fn linear_ends_at_zero_and_trapezoid_waits() {
        let linear = Schedule {
            decay: Decay::Linear,
            floor: 0.0,
            ..cosine()
        };
        assert_relative_eq!(linear.factor(at(9, 0.525, 0.0)), 0.5);
        assert_relative_eq!(linear.factor(at(9, 1.0, 0.0)), 0.0);
        let trapezoid = Schedule {
            decay: Decay::Trapezoid,
            decay_fraction: 0.4,
            ..linear
        };
        assert_relative_eq!(trapezoid.factor(at(9, 0.5, 0.0)), 1.0);
        assert_relative_eq!(trapezoid.factor(at(9, 0.8, 0.0)), 0.5);
    }

    #[test]
    fn warms_up_for_a_number_of_steps() {
        let schedule = Schedule {
            warmup_steps: Some(10),
            floor: 0.0,
            ..cosine()
        };
        let factor = |step: u64| schedule.factor(at(step, step as f64 / 110.0, 1.0 / 110.0));
        assert_relative_eq!(factor(0), 0.1);
        assert_relative_eq!(factor(9), 1.0);
        assert_relative_eq!(factor(10), 1.0);
        assert_relative_eq!(factor(60), 0.5, epsilon = 1e-12);
        assert_relative_eq!(factor(110), 0.0, epsilon = 1e-12);
    }

    #[test]
    fn a_rate_set_after_the_step_starts_at_the_peak_and_lags() {
        let schedule = Schedule {
            warmup_steps: Some(5),
            after_step: true,
            ..cosine()
        };
        let factor = |step: u64| schedule.factor(at(step, step as f64 / 20.0, 0.05));
        let found = [0, 1, 2, 4].map(factor);
        for (found, expected) in found.into_iter().zip([1.0, 0.2, 0.4, 0.8]) {
            assert_relative_eq!(found, expected, epsilon = 1e-12);
        }
    }

    #[test]
    fn a_budget_of_minutes_is_time_over_all_sessions() {
        let at = |seconds| Position {
            step: 3,
            epochs: 0.1,
            seconds,
        };
        let budget = Budget::Minutes(2.0);
        assert_relative_eq!(budget.progress(at(30.0)), 0.25);
        assert!(!budget.is_spent(at(119.0)) && budget.is_spent(at(120.0)));
        assert!(Budget::Steps(3).is_spent(at(0.0)));
        assert_relative_eq!(Budget::Epochs(0.4).progress(at(0.0)), 0.25);
    }
}
