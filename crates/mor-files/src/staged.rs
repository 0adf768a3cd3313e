//! Files of one folder that all appear, or none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::atomic::{check_writable, take_permissions};
use crate::made::{MadeFolders, partial, sync_folder};
use crate::target::{End, Target, follow, parent};
use crate::{FileError, Result};

/// A folder that is filled under a temporary name beside its place. [`StagedFolder::commit`] moves the files to where
/// they belong; dropped before that, it leaves nothing behind.
///
/// ```
/// use mor_files::StagedFolder;
///
/// # let folder = tempfile::tempdir()?;
/// let output = folder.path().join("model");
/// let staged = StagedFolder::new(&output)?;
/// for name in ["model.safetensors", "config.json"] {
///     mor_files::write(&staged.path().join(name), b"")?;
/// }
/// staged.commit("config.json", &[])?;
/// assert!(output.join("config.json").is_file());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StagedFolder {
    /// As it was asked for.
    asked: PathBuf,
    output: PathBuf,
    exists: bool,
    /// What is filled: in `temporary`, called like the output, so that errors say that.
    folder: PathBuf,
    temporary: TempDir,
    /// Dropped last, when the temporary folder is gone from them.
    made: MadeFolders,
}

impl StagedFolder {
    /// Starts what will be the folder `output`; missing folders above it are created.
    ///
    /// # Errors
    /// When the place cannot be written, or `output` is no folder.
    pub fn new(output: &Path) -> Result<Self> {
        let fail = FileError::io(output);
        let (path, exists) = match follow(output).map_err(&fail)? {
            End::Free(path) => (path, false),
            End::Found(path, metadata) if metadata.is_dir() => (path, true),
            _ => return Err(FileError::refuse(output, "is not a folder")),
        };
        // An existing folder is filled from within: what stands above it may belong to somebody else.
        let place = if exists { &path } else { parent(&path) };
        let made = MadeFolders::create(place).map_err(&fail)?;
        let temporary = partial(0o777).tempdir_in(place).map_err(&fail)?;
        let folder = match path.file_name() {
            Some(name) if !exists => temporary.path().join(name),
            _ => temporary.path().to_owned(),
        };
        if !exists {
            fs::create_dir(&folder).map_err(&fail)?;
        }
        Ok(Self {
            asked: output.to_owned(),
            output: path,
            exists,
            folder,
            temporary,
            made,
        })
    }

    /// Where files are written until [`StagedFolder::commit`].
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Moves the files into the output folder, the one called `last` after all others: a reader takes the folder for
    /// whole when that is there. Files of other names that are there already stay; those of the same names are
    /// replaced, each at once, and keep their permissions. What is called as one of `gone` and was not staged is removed:
    /// it belongs to what was there before.
    ///
    /// # Errors
    /// When a file cannot be moved. That all can be replaced is known before the first one is.
    pub fn commit(self, last: &str, gone: &[&str]) -> Result<()> {
        let Self {
            asked,
            output,
            exists,
            // Dropped last, as it is bound first.
            made,
            temporary: _temporary,
            folder,
        } = self;
        let fail = FileError::io(&asked);
        if !exists && fs::rename(&folder, &output).is_ok() {
            made.keep();
            return sync_folder(parent(&output)).map_err(&fail);
        }
        let mut moves = Vec::new();
        for entry in fs::read_dir(&folder).map_err(&fail)? {
            let name = entry.map_err(&fail)?.file_name();
            let path = asked.join(&name);
            let fail = FileError::io(&path);
            match Target::of(&output.join(&name)) {
                Ok(Target::File {
                    path: target,
                    existing,
                }) => {
                    if existing.is_some() {
                        check_writable(&target).map_err(&fail)?;
                    }
                    moves.push((name, target, existing));
                }
                Ok(Target::Stream(stream)) => {
                    let why = format!("is {}, not an ordinary file", stream.name());
                    return Err(FileError::refuse(&path, why));
                }
                Err(error) => return Err(fail(error.source)),
            }
        }
        moves.sort_by_key(|(name, ..)| name == last);
        fs::create_dir_all(&output).map_err(&fail)?;
        let is_staged = |gone: &&str| moves.iter().any(|(name, ..)| name == *gone);
        let gone: Vec<PathBuf> = gone
            .iter()
            .filter(|it| !is_staged(it))
            .map(|it| output.join(it))
            .collect();
        for (name, target, existing) in moves {
            if name == last {
                remove(&gone)?;
            }
            let from = folder.join(&name);
            let path = asked.join(&name);
            let fail = FileError::io(&path);
            if let Some(existing) = existing {
                let file = fs::File::open(&from).map_err(&fail)?;
                take_permissions(&file, &existing).map_err(&fail)?;
            }
            match fs::rename(&from, &target) {
                // A link led to another disk.
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    crate::copy(&from, &target)?;
                }
                moved => moved.map_err(&fail)?,
            }
            sync_folder(parent(&target)).map_err(&fail)?;
        }
        made.keep();
        Ok(())
    }
}

fn remove(files: &[PathBuf]) -> Result<()> {
    for path in files {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::io(path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
