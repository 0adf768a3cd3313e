//! Whether the paths of a command can go together.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::target::{End, follow};

/// The files and folders that a command reads and writes, each with the option that names it.
///
/// Made before anything is opened: [`PathCheck::check`] finds outputs that are one file, and those that are an input,
/// by whatever spelling, link or hard link.
///
/// ```
/// # use std::path::Path;
/// let check = mor_files::PathCheck::new()
///     .reads("--input", Path::new("raw.jsonl"))
///     .writes("--output", Path::new("train.jsonl"))
///     .writes("--valid", Path::new("./train.jsonl"));
/// let clash = check.check().unwrap_err();
/// assert!(clash.to_string().starts_with("--valid and --output name the same file"));
/// ```
#[derive(Debug, Default)]
pub struct PathCheck {
    reads: Vec<Use>,
    writes: Vec<Use>,
    /// The first thing that was found wrong with a path alone.
    problem: Option<Clash>,
}

/// A path of a command, and what is there.
#[derive(Debug)]
struct Use {
    option: String,
    /// As it was given.
    path: PathBuf,
    /// Whether all below it is meant too.
    is_tree: bool,
    /// Device and number of the file, if it exists and the system has such numbers.
    node: Option<(u64, u64)>,
    /// Where it is, or will be, once links are followed.
    location: Option<PathBuf>,
    /// A terminal or another device, which several can read and write at once.
    is_shared: bool,
}

/// Paths that cannot go together; says which options name them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Clash(String);

impl PathCheck {
    /// No paths yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `option` names a file that is read, or a folder of which everything is.
    pub fn reads(mut self, option: &str, path: &Path) -> Self {
        self.reads.push(Use::new(option, path, path.is_dir()));
        self
    }

    /// `option` names a folder of which the files of these names are read, as far as they are there.
    pub fn reads_files(
        mut self,
        option: &str,
        folder: &Path,
        names: impl IntoIterator<Item = impl AsRef<Path>>,
    ) -> Self {
        for name in names {
            let path = folder.join(name);
            if path.exists() {
                self.reads.push(Use::new(option, &path, false));
            }
        }
        self
    }

    /// `option` names a folder of which every file directly in it is read.
    pub fn reads_folder(self, option: &str, folder: &Path) -> Self {
        let names = file_names(folder);
        self.reads_files(option, folder, names)
    }

    /// `option` names a file that is written.
    pub fn writes(mut self, option: &str, path: &Path) -> Self {
        if path.is_dir() {
            self.refuse(option, path, "is a folder; give the name of a file");
        }
        self.writes.push(Use::new(option, path, false));
        self
    }

    /// `option` names a folder in which files of these names are written.
    pub fn writes_files(
        mut self,
        option: &str,
        folder: &Path,
        names: impl IntoIterator<Item = impl AsRef<Path>>,
    ) -> Self {
        if folder.exists() && !folder.is_dir() {
            self.refuse(option, folder, "is not a folder; give another name");
        }
        for name in names {
            let path = folder.join(name);
            self = self.writes(option, &path);
        }
        self
    }

    /// `option` names a folder that is written, or that stands above `folder`, of which everything may be replaced.
    pub fn writes_tree(mut self, option: &str, folder: &Path) -> Self {
        self.writes.push(Use::new(option, folder, true));
        self
    }

    /// Refuses outputs that are the same file, or an input.
    ///
    /// # Errors
    /// [`Clash`], naming both options.
    pub fn check(&self) -> Result<(), Clash> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        for (index, output) in self.writes.iter().enumerate() {
            for other in &self.writes[..index] {
                if !output.is(other) {
                    continue;
                }
                if output.option != other.option {
                    return Err(Clash(format!(
                        "{} and {} name the same file, {}; give each a file of its own",
                        output.option,
                        other.option,
                        output.path.display()
                    )));
                }
                // The same name twice is one output.
                if output.path != other.path {
                    return Err(Clash(format!(
                        "{} would write {} and {}, which are the same file; remove the link",
                        output.option,
                        other.path.display(),
                        output.path.display()
                    )));
                }
            }
            for input in &self.reads {
                if let Some(problem) = output.problem_with(input) {
                    return Err(Clash(problem));
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, option: &str, path: &Path, why: &str) {
        let problem = format!("{option}: {} {why}", path.display());
        self.problem.get_or_insert(Clash(problem));
    }
}

impl Use {
    fn new(option: &str, path: &Path, is_tree: bool) -> Self {
        let metadata = fs::metadata(path).ok();
        Self {
            option: option.to_owned(),
            path: path.to_owned(),
            is_tree,
            node: metadata.as_ref().and_then(node),
            location: location(path),
            is_shared: metadata.as_ref().is_some_and(is_shared),
        }
    }

    /// Whether both are one file or folder.
    fn is(&self, other: &Self) -> bool {
        if self.is_shared || other.is_shared {
            return false;
        }
        let same_node = self.node.is_some() && self.node == other.node;
        // Also of what exists: by a path through folders that do not, it is not found yet.
        same_node || (self.location.is_some() && self.location == other.location)
    }

    /// Whether this lies below the folder `tree`, or is it.
    fn is_in(&self, tree: &Self) -> bool {
        let below = || {
            let (path, tree) = (self.location.as_ref()?, tree.location.as_ref()?);
            Some(path.starts_with(tree))
        };
        tree.is_tree && !self.is_shared && below().unwrap_or_default()
    }

    /// Why this output cannot be written where `input` is read.
    fn problem_with(&self, input: &Self) -> Option<String> {
        let (to, from) = (&self.option, &input.option);
        let (path, read) = (self.path.display(), input.path.display());
        if self.is(input) {
            Some(format!(
                "{to} would replace {path}, which {from} reads; give {to} another name"
            ))
        } else if self.is_in(input) {
            Some(format!(
                "{to} would write {path} into {read}, which {from} reads; give {to} a place outside it"
            ))
        } else if input.is_in(self) {
            Some(format!(
                "{to} would replace {path}, and with it {read}, which {from} reads; give {to} another name"
            ))
        } else {
            None
        }
    }
}

#[cfg(unix)]
fn node(metadata: &fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn node(_: &fs::Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(unix)]
fn is_shared(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    kind.is_char_device() || kind.is_socket()
}

#[cfg(not(unix))]
fn is_shared(_: &fs::Metadata) -> bool {
    false
}

/// The names of the files directly in a folder; none if it cannot be read, which whoever opens it will say.
pub fn file_names(folder: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name())
        .collect()
}

/// The absolute path without links of what `path` leads to, which need not exist.
fn location(path: &Path) -> Option<PathBuf> {
    let path = match follow(path).ok()? {
        End::Found(path, _) | End::Free(path) => std::path::absolute(path).ok()?,
        End::Open(..) => return None,
    };
    // What exists of it has one true name; the rest is as it is spelled.
    let (mut there, found) = path
        .ancestors()
        .find_map(|above| Some((above.canonicalize().ok()?, above)))?;
    for component in path.strip_prefix(found).ok()?.components() {
        match component {
            std::path::Component::ParentDir => {
                there.pop();
            }
            component => there.push(component),
        }
    }
    Some(there)
}

#[cfg(test)]
mod tests;
