//! A second result beside a tracked one: operations that autodiff records return one tensor.

use std::sync::{Arc, Mutex, PoisonError};

/// Where the cross-entropy leaves the losses of its rows.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedLosses(Arc<Mutex<Vec<f32>>>);

impl SharedLosses {
    /// What was left, which is empty before the operation has run.
    pub(super) fn take(&self) -> Vec<f32> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, losses: Vec<f32>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = losses;
    }
}
