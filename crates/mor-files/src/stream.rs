//! Outputs that are written from their beginning to their end.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::atomic::NEW;
use crate::target::{End, Target, follow};
use crate::{AtomicFile, FileError, Result};

/// A file that appears whole or not at all; or, where the path is a FIFO, a socket, a terminal or another device, that,
/// which gets what is written at once and stays what it is.
///
/// ```
/// use std::io::Write;
///
/// use mor_files::OutputStream;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("rows.jsonl");
/// // Also a FIFO or /dev/stdout.
/// let mut output = OutputStream::create(&path)?;
/// writeln!(output, "{{}}")?;
/// output.commit()?;
/// # assert_eq!(std::fs::read(&path)?, b"{}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OutputStream(Kind);

#[derive(Debug)]
enum Kind {
    File(AtomicFile),
    Through(PathBuf, BufWriter<File>),
}

impl OutputStream {
    /// Starts writing `path`. A FIFO waits for its reader.
    ///
    /// # Errors
    /// When `path` is a folder, or it or its folder cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self(match Target::of(path)? {
            Target::File {
                path: target,
                existing,
            } => Kind::File(AtomicFile::at(path, target, existing.as_ref(), NEW)?),
            Target::Stream(stream) => {
                let file = stream.open().map_err(FileError::io(path))?;
                Kind::Through(path.to_owned(), BufWriter::new(file))
            }
        }))
    }

    /// Writes everything out, and gives a file its name.
    ///
    /// # Errors
    /// As [`AtomicFile::commit`]; or when nobody reads what is written.
    pub fn commit(self) -> Result<()> {
        match self.0 {
            Kind::File(file) => file.commit(),
            Kind::Through(path, mut file) => file.flush().map_err(FileError::io(&path)),
        }
    }
}

impl Write for OutputStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::File(file) => file.write(bytes),
            Kind::Through(_, file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::File(file) => file.flush(),
            Kind::Through(_, file) => file.flush(),
        }
    }
}

/// Whether `path` leads to what the program prints, so that nothing else should be printed there.
pub fn is_standard_output(path: &Path) -> bool {
    matches!(follow(path), Ok(End::Open(_, 1)))
}

/// Writes `bytes` to `path`: a file appears whole or not at all, a device gets them.
///
/// # Errors
/// As [`OutputStream::create`] and [`OutputStream::commit`].
pub fn write_through(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = OutputStream::create(path)?;
    output.write_all(bytes).map_err(FileError::io(path))?;
    output.commit()
}
