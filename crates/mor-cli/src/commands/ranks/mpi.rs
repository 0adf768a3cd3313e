//! Processes that talk over MPI.

use std::cell::RefCell;
use std::fmt;
use std::mem::ManuallyDrop;

use anyhow::{Result, bail};
use mor_train::{Ranks, TrainError};
use mpi::collective::{CommunicatorCollectives, Root, SystemOperation};
use mpi::datatype::Equivalence;
use mpi::environment::Universe;
use mpi::topology::{Communicator, SimpleCommunicator};

/// Numbers that are sent at a time: bounds the copy that a sum needs.
const CHUNK: usize = 1 << 18;

/// All processes of an `mpirun`.
pub(super) struct Mpi {
    world: SimpleCommunicator,
    /// Ends MPI when dropped, which waits for the other processes: only right once all have finished. A process that
    /// fails leaves without a goodbye, and `mpirun` then stops the others.
    universe: RefCell<Option<ManuallyDrop<Universe>>>,
    sums: RefCell<(Vec<f32>, Vec<f64>)>,
}

impl Mpi {
    /// Meets the other processes.
    pub(super) fn new() -> Result<Self> {
        let Some(universe) = mpi::initialize() else {
            bail!("MPI could not be initialised; start the processes with mpirun");
        };
        Ok(Self {
            world: universe.world(),
            universe: RefCell::new(Some(ManuallyDrop::new(universe))),
            sums: RefCell::default(),
        })
    }

    /// Sums at the first process, then tells all: every process has the same bits, whatever the order of additions.
    fn sum_into<T: Equivalence + Copy + Default>(&self, values: &mut [T], sums: &mut Vec<T>) {
        let first = self.world.process_at_rank(0);
        for values in values.chunks_mut(CHUNK) {
            if self.is_first() {
                sums.resize(values.len(), T::default());
                first.reduce_into_root(values, &mut sums[..], SystemOperation::sum());
                values.copy_from_slice(sums);
            } else {
                first.reduce_into(values, SystemOperation::sum());
            }
            first.broadcast_into(values);
        }
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), TrainError> {
        self.sum_into(values, &mut self.sums.borrow_mut().0);
        Ok(())
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<(), TrainError> {
        self.sum_into(values, &mut self.sums.borrow_mut().1);
        Ok(())
    }

    fn finish(&self) -> Result<(), TrainError> {
        self.world.barrier();
        if let Some(universe) = self.universe.borrow_mut().take() {
            drop(ManuallyDrop::into_inner(universe));
        }
        Ok(())
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rank, size) = (self.rank(), self.size());
        f.debug_struct("Mpi")
            .field("rank", &rank)
            .field("size", &size)
            .finish_non_exhaustive()
    }
}
