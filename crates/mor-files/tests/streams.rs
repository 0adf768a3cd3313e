//! FIFOs, devices and sockets: written through, or refused, and never replaced.
#![cfg(unix)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use mor_files::{AtomicFile, StagedFolder, append, write, write_through};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("starts").success());
}

/// What a reader gets while `write` runs.
fn read_during(path: PathBuf, write: impl FnOnce()) -> Vec<u8> {
    let reader = std::thread::spawn(move || fs::read(path));
    write();
    reader.join().expect("runs").expect("readable")
}

#[test]
fn a_fifo_gets_what_is_written_also_through_a_link() {
    let folder = folder();
    let path = folder.path().join("fifo");
    let link = folder.path().join("link");
    fifo(&path);
    symlink("fifo", &link).expect("a link");
    let text = vec![b'x'; 100_000];
    for to in [&path, &link] {
        let got = read_during(path.clone(), || {
            write_through(to, &text).expect("written");
        });
        assert!(got == text);
        assert!(fs::metadata(&path).expect("there").file_type().is_fifo());
        assert!(link.is_symlink());
    }
}

#[test]
fn a_socket_gets_what_is_written() {
    let folder = folder();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        let (mut stream, _) = listener.accept().expect("a writer");
        stream.read_to_end(&mut got).expect("readable");
        got
    });
    write_through(&path, b"text").expect("written");
    assert_eq!(reader.join().expect("runs"), b"text");
    assert!(fs::metadata(&path).expect("there").file_type().is_socket());
    // Nobody listens any more.
    let error = write_through(&path, b"text").expect_err("refused");
    assert!(error.to_string().contains("socket: "), "{error}");
}

#[test]
fn what_needs_an_ordinary_file_refuses_a_fifo_by_name() {
    let folder = folder();
    let path = folder.path().join("fifo");
    fifo(&path);
    let source = folder.path().join("source");
    write(&source, b"text").expect("written");
    for error in [
        AtomicFile::create(&path).map(drop),
        write(&path, b"text"),
        mor_files::copy(&source, &path),
        append(&path).map(drop),
    ] {
        let error = error.expect_err("refused").to_string();
        assert!(error.contains("fifo: is a FIFO"), "{error}");
    }
    let error = StagedFolder::new(&path).expect_err("refused").to_string();
    assert!(error.contains("fifo: is not a folder"), "{error}");
    let staged = StagedFolder::new(folder.path()).expect("writable");
    write(&staged.path().join("fifo"), b"text").expect("written");
    let error = staged.commit("", &[]).expect_err("refused").to_string();
    assert!(error.contains("fifo: is a FIFO"), "{error}");
    assert!(fs::metadata(&path).expect("there").file_type().is_fifo());
}

#[test]
fn a_device_is_written_and_stays() {
    let folder = folder();
    let path = folder.path().join("null");
    // Only an administrator can make one, and only where there are such.
    let made = Command::new("mknod")
        .arg(&path)
        .args(["c", "1", "3"])
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        return;
    }
    write_through(&path, b"text").expect("written");
    let error = write(&path, b"text").expect_err("refused").to_string();
    assert!(error.contains("null: is a device"), "{error}");
    let kind = fs::metadata(&path).expect("there").file_type();
    assert!(kind.is_char_device());
}
