//! `SHA256SUMS`: a checksum of every other file of a folder, as `sha256sum --check` reads it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Result, TrainError};

/// File name of the checksums.
pub const CHECKSUMS_FILE: &str = "SHA256SUMS";

/// Writes the checksums of the files in `dir`.
pub(super) fn write(dir: &Path) -> Result<()> {
    let text = of(dir)?;
    Ok(mor_files::write(
        &dir.join(CHECKSUMS_FILE),
        text.as_bytes(),
    )?)
}

/// What is wrong with the files of `dir`: one that is missing, was added, or has changed. The checksums themselves
/// are covered too, since they must equal, byte for byte, what would be written now.
pub(super) fn problem(dir: &Path) -> Option<String> {
    let path = dir.join(CHECKSUMS_FILE);
    let kept = match std::fs::read(&path) {
        Ok(kept) => kept,
        Err(error) => return Some(format!("{CHECKSUMS_FILE}: {error}")),
    };
    let found = match of(dir) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    if kept == found.as_bytes() {
        return None;
    }
    let kept = String::from_utf8_lossy(&kept).into_owned();
    let changed = found.lines().find(|line| !kept.lines().any(|l| l == *line));
    let missing = kept.lines().find(|line| !found.lines().any(|l| l == *line));
    let name = changed.or(missing).and_then(|line| line.split("  ").nth(1));
    Some(match name {
        Some(name) if !dir.join(name).is_file() => format!("{name} is missing"),
        Some(name) => format!("{name} has changed, or its checksum has"),
        None => format!("{CHECKSUMS_FILE} has changed"),
    })
}

fn of(dir: &Path) -> Result<String> {
    let io = || TrainError::io(dir);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io())? {
        let name = entry.map_err(io())?.file_name();
        let name = name.to_string_lossy().into_owned();
        if name != CHECKSUMS_FILE {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut text = String::new();
    for name in names {
        let hash = sha256(&dir.join(&name))?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{hash}  {name}");
    }
    Ok(text)
}

/// The SHA-256 of a file in hexadecimal.
fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(TrainError::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(TrainError::io(path))?;
        if count == 0 {
            let digest = hasher.finalize();
            return Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&buffer[..count]);
    }
}
