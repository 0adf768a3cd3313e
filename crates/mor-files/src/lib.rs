//! Every file that the workspace writes is written here.
//!
//! - [`AtomicFile`], [`write()`], [`copy`]: ordinary files, which appear whole or not at all.
//! - [`OutputStream`], [`write_through`]: the same for what is written from its beginning to its end, and so can also go
//!   to a FIFO, a socket, a terminal or another device.
//! - [`append`]: files that grow.
//! - [`StagedFolder`]: files that appear together. [`folder`]: whole folders that are replaced at once.
//! - [`PathCheck`]: refuses a command whose outputs are one file, or an input of it, before anything is opened.
//!
//! Symbolic links are followed: what they lead to is replaced, and they stay. A file that is replaced keeps its
//! permissions, and a new one gets what the umask allows. What is neither a file nor a stream is refused by name.

mod append;
mod atomic;
mod check;
mod error;
pub mod folder;
mod made;
mod staged;
mod stream;
mod target;

pub use append::append;
pub use atomic::{AtomicFile, copy, write};
pub use check::{Clash, PathCheck, file_names};
pub use error::{FileError, Result};
pub use staged::StagedFolder;
pub use stream::{OutputStream, is_standard_output, write_through};
