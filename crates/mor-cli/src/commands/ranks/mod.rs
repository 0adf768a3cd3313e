//! The other processes of a training run.

#[cfg(feature = "mpi")]
mod mpi;

use anyhow::Result;
use mor_train::{Alone, Ranks};

/// The processes that `mpirun` started together; otherwise this one by itself.
///
/// # Errors
/// With the feature `mpi`, when MPI cannot be initialised; without it, under `mpirun`.
pub(crate) fn connect() -> Result<Box<dyn Ranks>> {
    // What Open MPI and MPICH tell the processes that they start.
    let started_by_mpirun = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|size| size != "1"));
    if !started_by_mpirun {
        return Ok(Box::new(Alone));
    }
    #[cfg(feature = "mpi")]
    return Ok(Box::new(mpi::Mpi::new()?));
    #[cfg(not(feature = "mpi"))]
    anyhow::bail!(
        "this program was built without MPI, so that each process would train by itself; \
         build it with `cargo build --release --package mor-cli --features mpi`"
    );
}
