//! Folders among the inputs of a command.

use std::path::PathBuf;

use indicatif::HumanBytes;
use mor_text::data::{Columns, FolderContents, Inputs, expand};
use serde_json::{Value, json};

use crate::output::name;

/// Files of a folder shown one by one, of those that are read and of those that are not.
const SHOWN: usize = 20;

/// The files that inputs stand for; of each folder, a table on standard error tells what was found in it.
///
/// # Errors
/// As [`expand`].
pub(crate) fn files(inputs: &[PathBuf], columns: Option<&Columns>) -> mor_text::Result<Inputs> {
    let found = expand(inputs, columns)?;
    for folder in &found.folders {
        note!("{}", table(folder));
    }
    Ok(found)
}

/// What was found in a folder: a line for each file that is read, and for each that is not.
fn table(folder: &FolderContents) -> String {
    let shown = |path: &PathBuf| {
        let path = path.strip_prefix(&folder.path).unwrap_or(path);
        name(&path.display().to_string())
    };
    let (read, skipped) = (folder.read.len(), folder.skipped.len());
    let mut table = format!(
        "{}: {read} files to read, {skipped} skipped, {} hidden",
        name(&folder.path.display().to_string()),
        folder.hidden
    );
    for (path, kind, bytes) in folder.read.iter().take(SHOWN) {
        let size = HumanBytes(*bytes).to_string();
        table += &format!("\n  {:<32}{size:>12}  {}", shown(path), name(kind));
    }
    if read > SHOWN {
        table += &format!("\n  and {} more", read - SHOWN);
    }
    for (path, reason) in folder.skipped.iter().take(SHOWN) {
        table += &format!("\n  {:<32}{:>12}  {}", shown(path), "skipped", name(reason));
    }
    if skipped > SHOWN {
        table += &format!("\n  and {} more skipped", skipped - SHOWN);
    }
    table
}

/// The same for other programs.
pub(super) fn report(folders: &[FolderContents]) -> Value {
    let folders = folders.iter().map(|folder| {
        let read = folder.read.iter().map(|(path, kind, bytes)| {
            json!({ "path": path.display().to_string(), "format": kind, "bytes": bytes })
        });
        let skipped = folder
            .skipped
            .iter()
            .map(|(path, reason)| json!({ "path": path.display().to_string(), "reason": reason }));
        json!({
            "path": folder.path.display().to_string(),
            "read": read.collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
            "hidden": folder.hidden,
        })
    });
    folders.collect()
}
