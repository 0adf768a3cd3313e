//! Files that appear whole or not at all.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::made::{MadeFolders, partial, sync_folder};
use crate::target::{Target, parent};
use crate::{FileError, Result};

/// What a new file allows, as far as the umask does.
pub(crate) const NEW: u32 = 0o666;
/// What a file allows until it has the permissions of the one it replaces.
const PRIVATE: u32 = 0o600;

/// An ordinary file, written under a temporary name beside its place, and moved there by [`AtomicFile::commit`]. Dropped
/// before that, it leaves nothing behind, and what was there stays as it was.
///
/// Where the path is a symbolic link, its place is where the link leads.
///
/// ```
/// use std::io::Write;
///
/// use mor_files::AtomicFile;
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("metrics.json");
/// let mut file = AtomicFile::create(&path)?;
/// file.write_all(b"{}")?;
/// assert!(!path.exists(), "not before it is whole");
/// file.commit()?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    /// As it was asked for.
    asked: PathBuf,
    target: PathBuf,
    writer: BufWriter<File>,
    /// Where it is until then.
    temporary: TempPath,
    /// Dropped last, when the temporary file is gone from them.
    made: MadeFolders,
}

impl AtomicFile {
    /// Starts writing what will be `path`; missing folders on the way are created.
    ///
    /// # Errors
    /// When `path` is something else than an ordinary file, a file that may not be written, or its folder cannot be
    /// written.
    pub fn create(path: &Path) -> Result<Self> {
        match Target::of(path)? {
            Target::File {
                path: target,
                existing,
            } => Self::at(path, target, existing.as_ref(), NEW),
            Target::Stream(stream) => Err(FileError::refuse(
                path,
                format!(
                    "is {}, and this output has to be an ordinary file",
                    stream.name()
                ),
            )),
        }
    }

    /// Starts what will be `target`, which links were followed to. A new file gets the permissions `mode`.
    pub(crate) fn at(
        asked: &Path,
        target: PathBuf,
        existing: Option<&Metadata>,
        mode: u32,
    ) -> Result<Self> {
        let fail = FileError::io(asked);
        if existing.is_some() {
            check_writable(&target).map_err(&fail)?;
        }
        let folder = parent(&target);
        let made = MadeFolders::create(folder).map_err(&fail)?;
        let mode = if existing.is_some() { PRIVATE } else { mode };
        let file = partial(mode).tempfile_in(folder).map_err(&fail)?;
        if let Some(existing) = existing {
            take_permissions(file.as_file(), existing).map_err(&fail)?;
        }
        let (file, temporary) = file.into_parts();
        Ok(Self {
            asked: asked.to_owned(),
            target,
            writer: BufWriter::new(file),
            temporary,
            made,
        })
    }

    /// A file without a name for what has to wait, on the same disk. It goes when it is closed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<File> {
        tempfile::tempfile_in(parent(&self.target)).map_err(FileError::io(&self.asked))
    }

    /// Writes everything out to the disk and gives the file its name, replacing what was there.
    ///
    /// # Errors
    /// When the disk is full or the file cannot be replaced.
    pub fn commit(self) -> Result<()> {
        let fail = FileError::io(&self.asked);
        let flushed = self.writer.into_inner();
        let file = flushed.map_err(|error| fail(error.into_error()))?;
        file.sync_all().map_err(&fail)?;
        drop(file);
        let moved = self.temporary.persist(&self.target);
        moved.map_err(|error| fail(error.error))?;
        self.made.keep();
        sync_folder(parent(&self.target)).map_err(&fail)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.writer.seek(position)
    }
}

/// Writes `bytes` as the ordinary file `path`, whole or not at all.
///
/// # Errors
/// As [`AtomicFile::create`] and [`AtomicFile::commit`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(FileError::io(path))?;
    file.commit()
}

/// Copies the contents of a file to the ordinary file `to`, whole or not at all. A new file gets the permissions of
/// `from`, as far as the umask allows them, and can be replaced by its owner.
///
/// # Errors
/// When `from` cannot be read, and as [`AtomicFile::create`] and [`AtomicFile::commit`].
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).map_err(FileError::io(from))?;
    let mode = source.metadata().map_err(FileError::io(from))?;
    let mode = permissions_of(&mode).map_or(NEW, |mode| mode | 0o200);
    let mut file = match Target::of(to)? {
        Target::File { path, existing } => AtomicFile::at(to, path, existing.as_ref(), mode)?,
        // Says why not.
        Target::Stream(_) => AtomicFile::create(to)?,
    };
    io::copy(&mut source, &mut file).map_err(FileError::io(to))?;
    file.commit()
}

/// Refuses a file that is protected from being written: moving another one over it would not ask.
pub(crate) fn check_writable(existing: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(existing).map(drop)
}

/// Gives a file the owner and permissions of the one it will replace.
#[cfg(unix)]
pub(crate) fn take_permissions(file: &File, existing: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let made = file.metadata()?;
    let mut mode = existing.mode() & 0o777;
    if made.gid() != existing.gid() && fchown(file, None, Some(existing.gid())).is_err() {
        // Another group must not see more than everyone does.
        mode &= !0o070 | (mode & 0o007) << 3;
    }
    if made.uid() != existing.uid() {
        // Only an administrator can.
        let _ = fchown(file, Some(existing.uid()), None);
    }
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
pub(crate) fn take_permissions(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn permissions_of(metadata: &Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    Some(metadata.mode() & 0o777)
}

#[cfg(not(unix))]
fn permissions_of(_: &Metadata) -> Option<u32> {
    None
}
