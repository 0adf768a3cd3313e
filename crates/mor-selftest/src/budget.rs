//! Time that a part has.

use std::time::Instant;

/// Time that a part has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    started: Instant,
    seconds: f64,
}

impl Budget {
    pub(crate) fn new(seconds: f64) -> Self {
        Self {
            started: Instant::now(),
            seconds,
        }
    }

    /// Seconds left, never below 0.
    pub(crate) fn left(&self) -> f64 {
        (self.seconds - self.started.elapsed().as_secs_f64()).max(0.0)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left() <= 0.0
    }

    /// What it had when it began.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
    }
}

/// Why something did not run.
pub(crate) const NO_TIME: &str = "no time was left; give more --minutes";
