//! Files that grow.

use std::fs::{File, OpenOptions};
use std::path::Path;

use crate::made::MadeFolders;
use crate::target::{Target, parent};
use crate::{FileError, Result};

/// Opens an ordinary file for writing at its end, or creates it, with missing folders on the way. What it holds stays.
///
/// # Errors
/// When `path` is something else than an ordinary file, or cannot be written.
pub fn append(path: &Path) -> Result<File> {
    let fail = FileError::io(path);
    let target = match Target::of(path)? {
        Target::File { path, .. } => path,
        Target::Stream(stream) => {
            let why = format!("is {}; this file is read again later", stream.name());
            return Err(FileError::refuse(path, why));
        }
    };
    let made = MadeFolders::create(parent(&target)).map_err(&fail)?;
    let file = OpenOptions::new().append(true).create(true).open(&target);
    let file = file.map_err(&fail)?;
    made.keep();
    Ok(file)
}
