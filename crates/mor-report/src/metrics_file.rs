//! Appending to `metrics.jsonl`, and reading it line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use mor_files::AtomicFile;
use serde::{Deserialize, Serialize};

use crate::{ReportError, Result};

/// Longest line that is read. A longer one is damage: it would otherwise fill the memory.
const MAX_LINE: u64 = 4 << 20;

/// The metrics file of a run.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

/// The part of any line that says where it belongs.
#[derive(Deserialize)]
struct Position {
    step: u64,
}

impl MetricsFile {
    /// Opens the file to continue after `step`: lines of later steps, and a last line cut short by a crash, are
    /// dropped, so that it ends up as if the run had never stopped.
    ///
    /// # Errors
    /// [`ReportError::Io`].
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        // Asked before it is read: whoever opened a FIFO would wait for ever.
        let mut kept = AtomicFile::create(path)?;
        if path.exists() {
            keep_lines(path, step, &mut kept).map_err(ReportError::io(path))?;
        }
        kept.commit()?;
        let file = mor_files::append(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`ReportError::Io`], and [`ReportError::Line`] for a value without a JSON form.
    pub fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|error| ReportError::Line {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        text.push(b'\n');
        self.file
            .write_all(&text)
            .map_err(ReportError::io(&self.path))
    }
}

/// Copies the whole lines of the steps up to `step`.
fn keep_lines(path: &Path, step: u64, kept: &mut impl Write) -> std::io::Result<()> {
    let mut lines = Lines::new(File::open(path)?);
    while let Some(line) = lines.next_line()? {
        let parsed = serde_json::from_slice::<Position>(line);
        if line.ends_with(b"\n") && parsed.is_ok_and(|line| line.step <= step) {
            kept.write_all(line)?;
        }
    }
    Ok(())
}

/// The lines of a file, one in memory at a time.
pub(crate) struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    /// Opens `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(ReportError::io(path))?;
        Ok(Self::new(file))
    }

    fn new(file: File) -> Self {
        Self {
            reader: BufReader::new(file),
            line: Vec::new(),
        }
    }

    /// The next line with its newline, or nothing at the end. Of a line beyond [`MAX_LINE`], the beginning, without a
    /// newline.
    pub(crate) fn next_line(&mut self) -> std::io::Result<Option<&[u8]>> {
        self.line.clear();
        let mut limited = (&mut self.reader).take(MAX_LINE);
        if limited.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        if self.line.len() as u64 == MAX_LINE && !self.line.ends_with(b"\n") {
            self.reader.skip_until(b'\n')?;
        }
        Ok(Some(&self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continues_after_the_checkpoint() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st").expect("writable");
        let mut metrics = MetricsFile::open(&path, 2).expect("readable");
        metrics
            .write(&serde_json::json!({"step": 3, "loss": 1.5}))
            .expect("writable");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(
            text,
            "{\"step\":1}\n{\"step\":2}\n{\"loss\":1.5,\"step\":3}\n"
        );
    }

    #[test]
    fn a_new_run_starts_an_empty_file_in_a_new_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("runs/first/metrics.jsonl");
        MetricsFile::open(&path, 0).expect("created");
        assert_eq!(std::fs::read(&path).expect("readable"), b"");
    }

    #[cfg(unix)]
    #[test]
    fn a_fifo_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("metrics.jsonl");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("starts").success());
        let error = MetricsFile::open(&path, 0).expect_err("refused");
        let error = error.to_string();
        assert!(error.contains("metrics.jsonl: is a FIFO"), "{error}");
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_still_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("metrics.jsonl");
        let mut text = vec![b'x'; MAX_LINE as usize + 10];
        text.extend_from_slice(b"\n{\"step\":1}\n");
        std::fs::write(&path, text).expect("writable");
        let mut lines = Lines::open(&path).expect("readable");
        let long = lines.next_line().expect("readable").expect("a line");
        assert_eq!(long.len() as u64, MAX_LINE);
        assert_eq!(
            lines.next_line().expect("readable"),
            Some(&b"{\"step\":1}\n"[..])
        );
        assert_eq!(lines.next_line().expect("readable"), None);
    }
}
