//! The other processes of a training run.

use anyhow::Result;
use mor_train::{Alone, Ranks};

/// The processes that `mpirun` started together; without it, or without the feature `mpi`, this one by itself.
///
/// # Errors
/// With the feature, when MPI cannot be initialised; without it, under `mpirun`.
pub(crate) fn connect() -> Result<Box<dyn Ranks>> {
    let size = std::env::var("OMPI_COMM_WORLD_SIZE");
    if size.is_ok_and(|size| size != "1") {
        anyhow::bail!(
            "this program was built without MPI: each process would train by itself; \
             build it with `cargo build --release --package mor-cli --features mpi`"
        );
    }
    Ok(Box::new(Alone))
}
