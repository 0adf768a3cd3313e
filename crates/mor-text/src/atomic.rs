//! Files that appear whole or not at all.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{Result, TextError};

/// A file written under a temporary name beside its place, and moved there by [`AtomicFile::commit`]. Dropped
/// before that, it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    writer: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Starts writing what will be `path`; missing folders on the way are created.
    ///
    /// # Errors
    /// [`TextError::Io`] if the folder cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(folder).map_err(|error| TextError::io(folder, error))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".partial-");
        // Temporary files are private by default; this one becomes an ordinary file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder
            .tempfile_in(folder)
            .map_err(|error| TextError::io(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            writer: BufWriter::new(file),
        })
    }

    /// Writes everything out and gives the file its name, replacing what was there.
    ///
    /// # Errors
    /// [`TextError::Io`] if the disk is full or the file cannot be replaced.
    pub fn commit(self) -> Result<()> {
        let Self { path, writer } = self;
        let file = writer
            .into_inner()
            .map_err(|error| TextError::io(&path, error.into_error()))?;
        file.as_file()
            .sync_all()
            .map_err(|error| TextError::io(&path, error))?;
        file.persist(&path)
            .map_err(|error| TextError::io(&path, error.error))?;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
        self.writer.seek(position)
    }
}

/// Writes `bytes` as `path`, whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)
        .map_err(|error| TextError::io(path, error))?;
    file.commit()
}
