//! Folders as inputs: every file in them that can be read.

use std::path::{Path, PathBuf};

use super::{ChatReader, Columns, Format, TableReader};
use crate::{Result, TextError};

/// Folders within one another.
const MAX_DEPTH: usize = 64;

/// Inputs of which folders have become their files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Every file, in order: those of a folder sorted by their names.
    pub files: Vec<PathBuf>,
    /// What the folders among the inputs hold.
    pub folders: Vec<FolderContents>,
}

/// What was found in a folder and in those below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderContents {
    /// The folder.
    pub path: PathBuf,
    /// Files that will be read, with what they are and their bytes on disk.
    pub read: Vec<(PathBuf, String, u64)>,
    /// Files that will not, each with why. Hidden ones are not among them.
    pub skipped: Vec<(PathBuf, String)>,
    /// Hidden files and folders.
    pub hidden: u64,
}

/// The files of `inputs`: a file is itself, and a folder all files in it and in its folders that can be read, sorted
/// by name, but for hidden ones. `columns` are those of tables, as for [`super::Documents::with_columns`].
///
/// # Errors
/// [`TextError::Io`] for a folder that cannot be listed, [`TextError::Unusable`] for one without files to read.
pub fn expand(inputs: &[PathBuf], columns: Option<&Columns>) -> Result<Inputs> {
    let mut all = Inputs::default();
    for input in inputs {
        if !input.is_dir() {
            all.files.push(input.clone());
            continue;
        }
        let mut folder = FolderContents {
            path: input.clone(),
            ..FolderContents::default()
        };
        folder.list(input, columns, MAX_DEPTH)?;
        if folder.read.is_empty() {
            let first = folder.skipped.first().map(|(path, reason)| {
                let name = path.strip_prefix(input).unwrap_or(path).display();
                format!(
                    "; {} skipped, the first: {name}: {reason}",
                    folder.skipped.len()
                )
            });
            return Err(TextError::Unusable {
                path: input.clone(),
                reason: format!(
                    "a folder without files to read{}",
                    first.unwrap_or_default()
                ),
            });
        }
        all.files
            .extend(folder.read.iter().map(|(path, ..)| path.clone()));
        all.folders.push(folder);
    }
    Ok(all)
}

impl FolderContents {
    fn list(&mut self, folder: &Path, columns: Option<&Columns>, depth: usize) -> Result<()> {
        let io = |cause| TextError::io(folder, cause);
        let mut entries = Vec::new();
        for entry in folder.read_dir().map_err(io)? {
            entries.push(entry.map_err(io)?);
        }
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                self.hidden += 1;
                continue;
            }
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let skip = match path.metadata() {
                Err(error) => error.to_string(),
                Ok(found) if found.is_dir() && is_link => "a link to a folder".to_owned(),
                Ok(found) if found.is_dir() && depth == 0 => {
                    "too many folders within one another".to_owned()
                }
                Ok(found) if found.is_dir() => {
                    self.list(&path, columns, depth - 1)?;
                    continue;
                }
                Ok(found) if !found.is_file() => "no file".to_owned(),
                Ok(found) if found.len() == 0 => "empty".to_owned(),
                Ok(found) => match describe(&path, columns) {
                    Ok(description) => {
                        self.read.push((path, description, found.len()));
                        continue;
                    }
                    // Its name stands before it anyway.
                    Err(
                        TextError::Unusable { reason, .. } | TextError::TokenFile { reason, .. },
                    ) => reason,
                    Err(TextError::Io { cause, .. }) => cause.to_string(),
                    Err(error) => error.to_string(),
                },
            };
            self.skipped.push((path, skip));
        }
        Ok(())
    }
}

/// What a data file is, in words, with its compression.
fn describe(path: &Path, columns: Option<&Columns>) -> Result<String> {
    let (format, file) = Format::open_with(path, columns)?;
    let compression = file.compression().name();
    let words = match format {
        Format::Chat => ChatReader::new(file, path).layout().describe().to_owned(),
        Format::Table => {
            let table = TableReader::new(file, path, columns)?;
            format!("a table with the columns {}", table.columns())
        }
        Format::Text => "plain text".to_owned(),
    };
    Ok(match compression {
        Some(name) => format!("{words}, {name}"),
        None => words,
    })
}

impl Format {
    /// What a data file is, in words: format, layout or columns, and compression.
    ///
    /// # Errors
    /// As [`Format::open`], and [`TextError::Unusable`] for a table without the `columns`, or such as are known.
    pub fn describe(path: &Path, columns: Option<&Columns>) -> Result<String> {
        describe(path, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_listed_sorted_and_what_is_skipped_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write("d/b.txt", b"text");
        write("d/a.csv", b"question,answer\nq,a\n");
        write("d/z/c.jsonl", b"{\"messages\":1}\n");
        write("d/.hidden/x.txt", b"x");
        write("d/.git", b"x");
        write("d/photo", b"\x89PNG\r\n\x1a\n");
        write("d/people.csv", b"name,age\nBob,3\n");
        write("d/none.txt", b"");
        write("e/photo.png", b"\x89PNG\r\n\x1a\n");
        write("single.txt", b"x");
        let path = |name: &str| folder.path().join(name);
        let found = expand(&[path("single.txt"), path("d")], None).unwrap();
        let files = ["single.txt", "d/a.csv", "d/b.txt", "d/z/c.jsonl"];
        assert_eq!(found.files, files.map(path));
        let [contents] = found.folders.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(contents.hidden, 2);
        let read: Vec<_> = contents.read.iter().map(|it| it.1.as_str()).collect();
        let expected = [
            "a table with the columns `question`, `answer`",
            "plain text",
            "JSON lines",
        ];
        assert_eq!(read, expected);
        let skipped: Vec<_> = contents
            .skipped
            .iter()
            .map(|(path, reason)| format!("{} {reason}", path.file_name().unwrap().display()))
            .collect();
        assert_eq!(skipped[0], "none.txt empty");
        assert!(skipped[1].starts_with("people.csv CSV with the columns `name`, `age`"));
        assert!(skipped[2].starts_with("photo this is a PNG image"));
        let error = expand(&[path("e")], None).unwrap_err().to_string();
        assert!(
            error.contains("without files to read; 1 skipped, the first: photo.png: this is a PNG"),
            "{error}"
        );
        std::fs::create_dir(path("f")).unwrap();
        assert!(expand(&[path("f")], None).is_err());
        // What is no folder is whoever reads it to judge.
        assert_eq!(expand(&[path("none")], None).unwrap().files, [path("none")]);
    }
}
