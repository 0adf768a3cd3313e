//! What an output's path leads to.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::{FileError, Result};

/// Links in a chain, beyond which it is a loop; as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Where an output goes.
#[derive(Debug)]
pub(crate) enum Target {
    /// An ordinary file, or a name that is still free.
    File {
        path: PathBuf,
        existing: Option<Metadata>,
    },
    /// Something that passes on what is written to it, and must never be replaced by a file.
    Stream(Stream),
}

/// Something that is written from the beginning to the end.
#[derive(Debug)]
pub(crate) struct Stream {
    path: PathBuf,
    kind: StreamKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum StreamKind {
    Fifo,
    Device,
    Socket,
    /// What this process has open under a number: `/dev/stdout` and its like.
    Open(u32),
}

impl Target {
    /// Follows `path`. Folders, block devices and loops of links are refused by name.
    pub(crate) fn of(asked: &Path) -> Result<Self> {
        let fail = FileError::io(asked);
        let is_folder = || FileError::refuse(asked, "is a folder; give the name of a file");
        if asked.file_name().is_none() || asked.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(is_folder());
        }
        let (path, existing) = match follow(asked).map_err(&fail)? {
            End::Open(path, 0) => {
                let why = format!("{} is what this program reads", path.display());
                return Err(FileError::refuse(asked, why));
            }
            End::Open(path, number) => {
                let kind = StreamKind::Open(number);
                return Ok(Self::Stream(Stream { path, kind }));
            }
            End::Found(path, existing) => (path, Some(existing)),
            End::Free(path) => (path, None),
        };
        let Some(metadata) = &existing else {
            return Ok(Self::File { path, existing });
        };
        if metadata.is_file() {
            return Ok(Self::File { path, existing });
        }
        if metadata.is_dir() {
            return Err(is_folder());
        }
        match stream_kind(metadata) {
            Some(kind) => Ok(Self::Stream(Stream { path, kind })),
            None => Err(FileError::refuse(
                asked,
                "is a disk or another special file, which nothing is written to; give the name of a file",
            )),
        }
    }
}

impl Stream {
    /// What it is, in words.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            StreamKind::Fifo => "a FIFO",
            StreamKind::Device => "a device",
            StreamKind::Socket => "a socket",
            StreamKind::Open(1) => "standard output",
            StreamKind::Open(2) => "standard error",
            StreamKind::Open(_) => "an open file of this process",
        }
    }

    /// Opens it for writing. A FIFO waits for a reader.
    pub(crate) fn open(&self) -> io::Result<File> {
        match self.kind {
            #[cfg(unix)]
            StreamKind::Socket => {
                let socket = std::os::unix::net::UnixStream::connect(&self.path)?;
                Ok(File::from(std::os::fd::OwnedFd::from(socket)))
            }
            // Opened anew, standard output would be written from its beginning if it is a file.
            #[cfg(unix)]
            StreamKind::Open(number @ (1 | 2)) => {
                use std::os::fd::AsFd;
                let descriptor = match number {
                    1 => io::stdout().as_fd().try_clone_to_owned(),
                    _ => io::stderr().as_fd().try_clone_to_owned(),
                };
                descriptor.map(File::from)
            }
            StreamKind::Open(_) => OpenOptions::new().append(true).open(&self.path),
            _ => OpenOptions::new().write(true).open(&self.path),
        }
    }
}

#[cfg(unix)]
fn stream_kind(metadata: &Metadata) -> Option<StreamKind> {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    let kinds = [
        (kind.is_fifo(), StreamKind::Fifo),
        (kind.is_char_device(), StreamKind::Device),
        (kind.is_socket(), StreamKind::Socket),
    ];
    let mut kinds = kinds.into_iter();
    kinds.find_map(|(is_kind, kind)| is_kind.then_some(kind))
}

#[cfg(not(unix))]
fn stream_kind(_: &Metadata) -> Option<StreamKind> {
    None
}

/// Where a chain of links ends.
pub(crate) enum End {
    /// At something, which is no link.
    Found(PathBuf, Metadata),
    /// At a name that is free.
    Free(PathBuf),
    /// At what this process has open under a number.
    Open(PathBuf, u32),
}

impl End {
    /// The path that no link stands at.
    pub(crate) fn into_path(self) -> PathBuf {
        match self {
            Self::Found(path, _) | Self::Free(path) | Self::Open(path, _) => path,
        }
    }
}

/// Follows links, one by one, to their end, which need not exist.
pub(crate) fn follow(path: &Path) -> io::Result<End> {
    let mut path = path.to_owned();
    for _ in 0..=MAX_LINKS {
        if let Some(number) = descriptor(&path) {
            return Ok(End::Open(path, number));
        }
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                path = parent(&path).join(fs::read_link(&path)?);
            }
            Ok(metadata) => return Ok(End::Found(path, metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(End::Free(path)),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(
        "its symbolic links lead in a circle or are too many",
    ))
}

/// The number under which this process has a path open, if it is one of the names that systems give to such.
fn descriptor(path: &Path) -> Option<u32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let folder = fs::canonicalize(parent(path)).ok()?;
    let is_it = |known: &str| fs::canonicalize(known).is_ok_and(|known| known == folder);
    ["/proc/self/fd", "/dev/fd"]
        .into_iter()
        .any(is_it)
        .then_some(number)
}

/// The folder that a path lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
