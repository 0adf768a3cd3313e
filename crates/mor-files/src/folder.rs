//! Folders that appear whole or not at all.
//!
//! A folder cannot be renamed over another, so an old one steps aside first; a crash between the two renames leaves it
//! as `.aside-NAME`, which nobody else calls a folder, and from where [`recover`] brings it back. Where a folder's name is
//! a symbolic link, all of this happens where the link leads.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::made::{MadeFolders, PARTIAL, partial, sync_folder};
use crate::target::{End, follow, parent};
use crate::{FileError, Result};

/// What the names of folders that step aside begin with.
const ASIDE: &str = ".aside-";

/// Fills a new folder beside `dir`, then puts it in the place of `dir`.
///
/// # Errors
/// What `fill` returns, or [`FileError`]; an old folder is untouched then.
pub fn replace<E: From<FileError>>(
    dir: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let fail = FileError::io(dir);
    let place = place(dir)?;
    let beside = parent(&place);
    let made = MadeFolders::create(beside).map_err(&fail)?;
    let temporary = partial(0o777).tempdir_in(beside).map_err(&fail)?;
    // Called as it will be, so that errors say that.
    let new = temporary.path().join(place.file_name().unwrap_or_default());
    fs::create_dir(&new).map_err(&fail)?;
    fill(&new)?;
    sync_folder(&new).map_err(&fail)?;
    let old = aside(&place);
    remove(&old)?;
    if place.exists() {
        fs::rename(&place, &old).map_err(&fail)?;
    }
    if let Err(error) = fs::rename(&new, &place) {
        let _ = fs::rename(&old, &place);
        return Err(fail(error).into());
    }
    made.keep();
    sync_folder(beside).map_err(&fail)?;
    Ok(remove(&old)?)
}

/// Where to read a folder that another process may be replacing: under its name, or, between the
/// two renames of a replacement, beside it.
pub fn existing(dir: &Path) -> Option<PathBuf> {
    let place = place(dir).ok()?;
    if place.is_dir() {
        return Some(dir.to_owned());
    }
    let old = aside(&place);
    old.is_dir().then_some(old)
}

/// Brings back a folder that had stepped aside for another when a crash came. No other process may be writing there.
///
/// # Errors
/// When it cannot be renamed, or what is left of the replacement cannot be removed.
pub fn recover(dir: &Path) -> Result<()> {
    let place = place(dir)?;
    let old = aside(&place);
    if old.exists() && !place.exists() {
        fs::rename(&old, &place).map_err(FileError::io(&old))?;
    }
    remove(&old)
}

/// As [`recover`], for every folder in `dir`.
///
/// # Errors
/// As [`recover`].
pub fn recover_all(dir: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let stepped_aside = name.to_str().and_then(|name| name.strip_prefix(ASIDE));
        match stepped_aside {
            Some(name) => recover(&dir.join(name))?,
            None if entry.path().is_dir() => recover(&entry.path())?,
            None => {}
        }
    }
    Ok(())
}

/// Removes the unfinished files and folders that a crash may have left in `dir`. No other process may be writing there.
///
/// # Errors
/// When one cannot be removed.
pub fn remove_partials(dir: &Path) -> Result<()> {
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
/// (which suits files that are never changed in place), copied where it cannot.
///
/// # Errors
/// When `from` cannot be read or the copy cannot be written.
pub fn link_copy(from: &Path, to: &Path) -> Result<()> {
    replace(to, |partial| {
        for entry in fs::read_dir(from).map_err(FileError::io(from))? {
            let entry = entry.map_err(FileError::io(from))?;
            let target = partial.join(entry.file_name());
            if fs::hard_link(entry.path(), &target).is_err() {
                crate::copy(&entry.path(), &target)?;
            }
        }
        Ok(())
    })
}

/// Removes a folder such that a crash on the way leaves no half of it under its name.
///
/// # Errors
/// When it cannot be renamed.
pub fn remove_whole(dir: &Path) -> Result<()> {
    let fail = FileError::io(dir);
    let aside = partial(0o777).tempdir_in(parent(dir)).map_err(&fail)?;
    fs::rename(dir, aside.path().join("removed")).map_err(&fail)
}

/// Claims a folder, which is made if need be, for as long as the returned file is open. Nothing where another process
/// has it.
///
/// # Errors
/// When the folder or the file `.lock` in it cannot be written.
pub fn lock(dir: &Path) -> Result<Option<File>> {
    let path = dir.join(".lock");
    let file = crate::append(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(FileError::io(&path)(error)),
    }
}

/// Where the folder itself is to stand, or stands.
fn place(dir: &Path) -> Result<PathBuf> {
    let end = follow(dir).map_err(FileError::io(dir))?;
    match &end {
        End::Found(_, metadata) if !metadata.is_dir() => {
            Err(FileError::refuse(dir, "is not a folder"))
        }
        _ => Ok(end.into_path()),
    }
}

/// What a folder is called while it steps aside.
fn aside(dir: &Path) -> PathBuf {
    let mut name = OsString::from(ASIDE);
    name.push(dir.file_name().unwrap_or_default());
    parent(dir).join(name)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> impl FnOnce(&Path) -> Result<()> + '_ {
        move |dir| crate::write(&dir.join("a"), text.as_bytes())
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
            Err(FileError::io(partial)(io::Error::other("disk full")))
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
        fs::rename(&dir, aside(&dir)).expect("writable");
        fs::create_dir(root.path().join(".partial-x")).expect("writable");
        fs::write(root.path().join(".partial-y"), "half").expect("writable");
        recover_all(root.path()).expect("recoverable");
        remove_partials(root.path()).expect("removable");
        assert_eq!(read(&dir), "one");
        assert_eq!(fs::read_dir(root.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn a_copy_that_somebody_else_made_stays() {
        let root = tempfile::tempdir().expect("a folder");
        let dir = root.path().join("best");
        let copy = root.path().join("best.old");
        replace(&dir, fill("one")).expect("writable");
        replace(&copy, fill("one")).expect("writable");
        replace(&dir, fill("two")).expect("writable");
        recover_all(root.path()).expect("recoverable");
        assert_eq!(
            (read(&dir), read(&copy)),
            ("two".to_owned(), "one".to_owned())
        );
        assert_eq!(fs::read_dir(root.path()).expect("a folder").count(), 2);
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

    #[test]
    fn a_folder_is_claimed_once() {
        let root = tempfile::tempdir().expect("a folder");
        let dir = root.path().join("run");
        let claim = lock(&dir).expect("writable").expect("free");
        assert!(lock(&dir).expect("writable").is_none());
        drop(claim);
        assert!(lock(&dir).expect("writable").is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_stays_and_what_it_leads_to_is_replaced() {
        let root = tempfile::tempdir().expect("a folder");
        let disk = root.path().join("disk");
        let dir = root.path().join("best");
        std::os::unix::fs::symlink("disk/best", &dir).expect("a link");
        for text in ["one", "two"] {
            replace(&dir, fill(text)).expect("writable");
            assert_eq!(read(&disk.join("best")), text);
            assert!(dir.is_symlink());
        }
        let stepped = disk.join(".aside-best");
        fs::rename(disk.join("best"), &stepped).expect("writable");
        assert_eq!(existing(&dir), Some(stepped));
        recover(&dir).expect("recoverable");
        assert_eq!(read(&dir), "two");

        fs::write(root.path().join("file"), "kept").expect("writable");
        let error = replace(&root.path().join("file"), fill("three")).expect_err("no folder");
        assert!(
            error.to_string().contains("file: is not a folder"),
            "{error}"
        );
    }
}
