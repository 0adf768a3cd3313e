//! Folders that appear whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{Result, TrainError};

/// Fills a new folder beside `dir`, then puts it in the place of `dir`.
///
/// A folder cannot be renamed over another, so the old one steps aside first; a crash between the
/// two renames leaves it as `NAME.old`, from where [`recover`] brings it back.
pub(super) fn replace(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = parent(dir);
    fs::create_dir_all(parent).map_err(TrainError::io(parent))?;
    let partial = tempfile::Builder::new()
        .prefix(PARTIAL)
        .tempdir_in(parent)
        .map_err(TrainError::io(parent))?;
    fill(partial.path())?;
    make_readable(partial.path()).map_err(TrainError::io(partial.path()))?;
    sync(partial.path())?;
    let old = old_name(dir);
    remove(&old)?;
    if dir.exists() {
        fs::rename(dir, &old).map_err(TrainError::io(dir))?;
    }
    // From here on the folder is no longer temporary.
    let partial = partial.keep();
    fs::rename(&partial, dir).map_err(TrainError::io(dir))?;
    sync(parent)?;
    remove(&old)
}

const PARTIAL: &str = ".partial-";

/// Where to read a folder that another process may be replacing: under its name, or, between the
/// two renames of a replacement, beside it.
pub(crate) fn existing(dir: &Path) -> Option<PathBuf> {
    [dir.to_owned(), old_name(dir)]
        .into_iter()
        .find(|dir| dir.is_dir())
}

/// Brings back a folder that had stepped aside for another when a crash came. No other process may be writing there.
///
/// # Errors
/// [`TrainError::Io`].
pub fn recover(dir: &Path) -> Result<()> {
    let old = old_name(dir);
    if old.exists() && !dir.exists() {
        fs::rename(&old, dir).map_err(TrainError::io(&old))?;
    }
    remove(&old)
}

/// Removes the unfinished files and folders that a crash may have left in `dir`. No other process may be writing there.
///
/// # Errors
/// [`TrainError::Io`].
pub(crate) fn remove_partials(dir: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Makes `to` a copy of the folder `from`, in one step. Files are shared where the file system can
/// (checkpoints are never changed in place), copied where it cannot.
///
/// # Errors
/// [`TrainError::Io`].
pub fn link_copy(from: &Path, to: &Path) -> Result<()> {
    replace(to, |partial| {
        for entry in fs::read_dir(from).map_err(TrainError::io(from))? {
            let entry = entry.map_err(TrainError::io(from))?;
            let target = partial.join(entry.file_name());
            if fs::hard_link(entry.path(), &target).is_err() {
                fs::copy(entry.path(), &target).map_err(TrainError::io(&target))?;
                sync(&target)?;
            }
        }
        Ok(())
    })
}

/// Removes a folder such that a crash on the way leaves no half of it under its name.
pub(crate) fn remove_whole(dir: &Path) -> Result<()> {
    let parent = parent(dir);
    let aside = tempfile::Builder::new()
        .prefix(PARTIAL)
        .tempdir_in(parent)
        .map_err(TrainError::io(parent))?;
    fs::rename(dir, aside.path().join("removed")).map_err(TrainError::io(dir))
}

fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn old_name(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainError::io(path)(error))
        }
        _ => Ok(()),
    }
}

/// Temporary folders are private to their owner; a run's are meant to be read by others.
#[cfg(unix)]
fn make_readable(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_readable(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn sync(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(TrainError::io(path))?;
    file.sync_all().map_err(TrainError::io(path))
}

/// Elsewhere folders cannot be opened as files; their files have been synced on writing.
#[cfg(not(unix))]
fn sync(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> impl FnOnce(&Path) -> Result<()> + '_ {
        move |dir| fs::write(dir.join("a"), text).map_err(TrainError::io(dir))
    }

    fn read(dir: &Path) -> String {
        fs::read_to_string(dir.join("a")).expect("readable")
    }

    #[test]
    fn replaces_whole_folders_only() {
        let root = tempfile::tempdir().expect("a folder");
        let dir = root.path().join("last");
        replace(&dir, fill("one")).expect("writable");
        replace(&dir, fill("two")).expect("writable");
        assert_eq!(read(&dir), "two");
        let failed = replace(&dir, |partial| {
            fill("three")(partial)?;
            Err(TrainError::io(partial)(std::io::Error::other("disk full")))
        });
        assert!(failed.is_err());
        assert_eq!(read(&dir), "two");
        assert_eq!(fs::read_dir(root.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn recovers_from_a_crash_between_the_renames() {
        let root = tempfile::tempdir().expect("a folder");
        let dir = root.path().join("last");
        replace(&dir, fill("one")).expect("writable");
        fs::rename(&dir, old_name(&dir)).expect("writable");
        fs::create_dir(root.path().join(".partial-x")).expect("writable");
        fs::write(root.path().join(".partial-y"), "half").expect("writable");
        recover(&dir).expect("recoverable");
        remove_partials(root.path()).expect("removable");
        assert_eq!(read(&dir), "one");
        assert_eq!(fs::read_dir(root.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn copies_outlive_the_original() {
        let root = tempfile::tempdir().expect("a folder");
        let (last, best) = (root.path().join("last"), root.path().join("best"));
        replace(&last, fill("one")).expect("writable");
        link_copy(&last, &best).expect("writable");
        replace(&last, fill("two")).expect("writable");
        assert_eq!(
            (read(&last), read(&best)),
            ("two".to_owned(), "one".to_owned())
        );
    }
}
