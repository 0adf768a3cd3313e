//! How deep a recursive model goes on average.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::RoutingConfig;

/// Mean number of loops that the gates of a recursive model are asked for, at least 1, in tenths.
///
/// ```
/// use mor_config::Budget;
///
/// let budget: Budget = "1.6".parse()?;
/// assert_eq!((budget.mean(), budget.to_string().as_str()), (1.6, "1.6"));
/// assert!("0.9".parse::<Budget>().is_err() && "1.65".parse::<Budget>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Budget {
    tenths: u16,
}

impl Budget {
    /// The budget of one loop and `tenths` of another.
    pub fn beyond_one(tenths: usize) -> Self {
        let tenths = tenths.saturating_add(10);
        Self {
            tenths: tenths.try_into().unwrap_or(u16::MAX),
        }
    }

    /// Mean number of loops.
    pub fn mean(self) -> f64 {
        f64::from(self.tenths) / 10.0
    }

    /// Where it stands in a list that begins with one loop.
    fn index(self) -> usize {
        usize::from(self.tenths - 10)
    }
}

impl TryFrom<f64> for Budget {
    type Error = String;

    fn try_from(mean: f64) -> Result<Self, Self::Error> {
        let tenths = (mean * 10.0).round();
        if !(10.0..=f64::from(u16::MAX)).contains(&tenths) || (mean * 10.0 - tenths).abs() > 1e-6 {
            return Err(format!(
                "{mean} is no budget: it is a mean number of loops, at least 1, with one digit after the point"
            ));
        }
        Ok(Self {
            tenths: tenths as u16,
        })
    }
}

impl From<Budget> for f64 {
    fn from(budget: Budget) -> Self {
        budget.mean()
    }
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mean: f64 = text
            .parse()
            .map_err(|_| format!("`{text}` is no number of loops"))?;
        Self::try_from(mean)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.tenths / 10, self.tenths % 10)
    }
}

impl RoutingConfig {
    /// How many budgets a recursive model keeps: each tenth from one loop to `max_steps`.
    pub fn budgets(&self) -> usize {
        (self.max_steps.max(1) - 1) * 10 + 1
    }

    /// What a gate must exceed at a budget, if the model was calibrated for it.
    pub fn threshold(&self, budget: Budget) -> Option<f32> {
        self.thresholds.get(budget.index()).copied()
    }
}
