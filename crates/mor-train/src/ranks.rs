//! Data-parallel training: what the processes of a run tell one another.

use std::fmt::Debug;

use crate::Result;

/// The processes that train one model together. Each has a part of every step's batches; gradients are summed.
pub trait Ranks: Debug {
    /// This process, from 0.
    fn rank(&self) -> usize;

    /// Processes in all.
    fn size(&self) -> usize;

    /// Replaces each number by its sum over all processes. Every process calls it with as many numbers.
    ///
    /// # Errors
    /// [`crate::TrainError::Ranks`] when the others cannot be reached.
    fn sum(&self, values: &mut [f32]) -> Result<()>;

    /// As [`Self::sum`], in double precision.
    ///
    /// # Errors
    /// As [`Self::sum`].
    fn sum_f64(&self, values: &mut [f64]) -> Result<()>;

    /// Says goodbye, once all is done.
    ///
    /// # Errors
    /// As [`Self::sum`].
    fn finish(&self) -> Result<()> {
        Ok(())
    }

    /// Whether this process is the one that writes files and reports.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Waits until all processes have come this far.
    ///
    /// # Errors
    /// As [`Self::sum`].
    fn wait(&self) -> Result<()> {
        self.sum_f64(&mut [0.0])
    }
}

/// One process by itself.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn sum_f64(&self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }
}
