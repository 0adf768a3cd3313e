//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::{ReportError, Result};

/// Writes a file beside its place and renames it, so that a crash leaves the old file or the new one, never a part.
pub(crate) fn write(
    path: &Path,
    contents: impl FnOnce(&mut BufWriter<&mut File>) -> std::io::Result<()>,
) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(ReportError::io(folder))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-");
    // Temporary files are private by default; this one becomes an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder
        .tempfile_in(folder)
        .map_err(ReportError::io(folder))?;
    let mut writer = BufWriter::new(file.as_file_mut());
    contents(&mut writer)
        .and_then(|()| writer.flush())
        .map_err(ReportError::io(path))?;
    drop(writer);
    file.as_file().sync_all().map_err(ReportError::io(path))?;
    file.persist(path)
        .map_err(|error| ReportError::io(path)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("page.html");
        write(&path, |file| file.write_all(b"old")).expect("writable");
        let failed = write(&path, |file| {
            file.write_all(b"half")?;
            Err(std::io::Error::other("the disk is full"))
        });
        let message = failed.expect_err("passed on").to_string();
        assert!(message.contains("page.html"), "{message}");
        assert_eq!(std::fs::read(&path).expect("readable"), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1);
    }
}
