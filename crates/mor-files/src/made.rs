//! Folders that are made on the way to a file, and what temporary files have in common.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::target::{follow, parent};

/// What the names of temporary files and folders begin with.
pub(crate) const PARTIAL: &str = ".partial-";

/// Names for temporary files and folders. `mode` is what they allow where the umask does not forbid it.
pub(crate) fn partial(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// Folders that did not exist. They go again when this is dropped, as far as they are empty, unless they are kept.
#[derive(Debug)]
pub(crate) struct MadeFolders(Vec<PathBuf>);

impl MadeFolders {
    /// Makes a folder and what is missing above it; where the name of one is a link, where that leads.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let mut made = Self(Vec::new());
        made.make(folder)?;
        Ok(made)
    }

    fn make(&mut self, folder: &Path) -> io::Result<()> {
        match fs::metadata(folder) {
            Ok(metadata) if metadata.is_dir() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let folder = follow(folder)?.into_path();
        self.make(parent(&folder))?;
        match fs::create_dir(&folder) {
            Ok(()) => self.0.push(folder),
            // Another process was faster.
            Err(_) if folder.is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// They are of use now.
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Makes the names in a folder durable.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // A folder that may be written but not read cannot be synced, nor can those of some file systems.
    let Ok(folder) = File::open(folder) else {
        return Ok(());
    };
    match folder.sync_all() {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Elsewhere folders cannot be opened as files.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
