//! What can go wrong: always a file, and why.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::made::PARTIAL;

/// The result of every fallible operation of this crate.
pub type Result<T, E = FileError> = std::result::Result<T, E>;

/// A file or folder that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct FileError {
    /// The file or folder, as it was asked for.
    pub path: PathBuf,
    /// What the operating system said, or why the output is refused.
    pub source: io::Error,
}

impl FileError {
    /// An error about `path`. Temporary names are left out of both: nobody knows them.
    pub fn new(path: &Path, source: io::Error) -> Self {
        let is_temporary = |name: &OsStr| name.as_encoded_bytes().starts_with(PARTIAL.as_bytes());
        let components = path.components();
        Self {
            path: components
                .filter(|component| !is_temporary(component.as_os_str()))
                .collect(),
            source: plain(source),
        }
    }

    /// Wraps an I/O error with the path it is about.
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::new(&path, source)
    }

    /// Refuses a path, saying why.
    pub(crate) fn refuse(path: &Path, why: impl Into<String>) -> Self {
        Self::io(path)(io::Error::new(io::ErrorKind::InvalidInput, why.into()))
    }
}

/// What the operating system said, without the path that was added to it.
fn plain(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|added| added.source());
    let system = inner.and_then(|inner| inner.downcast_ref::<io::Error>());
    match system.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error,
    }
}
