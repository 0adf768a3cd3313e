//! Folders whose files all appear, or none.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::ImportError;

/// A folder that is filled under a temporary name beside its place. [`Staged::commit`] moves the files to where they
/// belong; dropped before that, it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    output: PathBuf,
    folder: TempDir,
}

impl Staged {
    /// Starts what will be the folder `output`; missing folders above it are created.
    ///
    /// # Errors
    /// [`ImportError::Io`] when the place cannot be written, or `output` is a file.
    pub fn new(output: &Path) -> Result<Self, ImportError> {
        if output.exists() && !output.is_dir() {
            return Err(ImportError::io(
                output,
                std::io::ErrorKind::NotADirectory.into(),
            ));
        }
        // An existing folder is filled from within: what stands above it may belong to somebody else.
        let place = match output.parent() {
            _ if output.is_dir() => output,
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(place).map_err(|error| ImportError::io(place, error))?;
        let folder = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(place)
            .map_err(|error| ImportError::io(place, error))?;
        Ok(Self {
            output: output.to_owned(),
            folder,
        })
    }

    /// Where files are written until [`Staged::commit`].
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Moves the files into the output folder. Files of other names that are there already stay; those of the same
    /// names are replaced, each at once.
    ///
    /// # Errors
    /// [`ImportError::Io`].
    pub fn commit(self) -> Result<(), ImportError> {
        let staged = self.folder.path();
        let io = |error| ImportError::io(staged, error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(staged).map_err(io)? {
            names.push(entry.map_err(io)?.file_name());
        }
        // The configuration comes last: a folder without it is not taken for a model.
        names.sort_by_key(|name| name == mor_config::CONFIG_FILE);
        std::fs::create_dir_all(&self.output)
            .map_err(|error| ImportError::io(&self.output, error))?;
        for name in names {
            let target = self.output.join(&name);
            std::fs::rename(staged.join(&name), &target)
                .map_err(|error| ImportError::io(&target, error))?;
        }
        Ok(())
    }
}
