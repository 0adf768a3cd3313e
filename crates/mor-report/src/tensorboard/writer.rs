//! Writing an event file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;

use super::proto::{Event, SessionLog, SessionStatus, Summary, Value, What};
use super::{convert, record};
use crate::metrics::{StepMetrics, ValidationMetrics};
use crate::{ReportError, Result};

/// Longest time that an event waits in memory while others follow.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// Appends a run's metrics to an event file of its own.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
    flushed: Instant,
}

impl EventWriter {
    /// Starts a new event file in `dir`, which is created if need be, for a run that goes on after `resume_step`, or
    /// begins if that is 0.
    ///
    /// TensorBoard reads a folder's files one after the other. The new one tells it that events of earlier files
    /// after `resume_step` no longer count. Its fast data server (the default) takes them back for each tag only when
    /// the resumed run reaches that tag again; `--load_fast=false` does so at once.
    ///
    /// # Errors
    /// [`ReportError::Io`].
    pub fn open(dir: &Path, resume_step: u64) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(ReportError::io(dir))?;
        // Files are read in the order of their names: a run resumed within the second, or after the clock was set
        // back, must still come last.
        let newest = newest(dir).map_err(ReportError::io(dir))?;
        let mut second = (now() as u64).max(newest.map_or(0, |newest| newest.saturating_add(1)));
        let (path, file) = loop {
            let name = format!("events.out.tfevents.{second:010}.{}", std::process::id());
            let path = dir.join(name);
            match File::create_new(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    second = second.saturating_add(1);
                }
                Err(error) => return Err(ReportError::io(&path)(error)),
            }
        };
        let mut writer = Self {
            path,
            file: BufWriter::new(file),
            flushed: Instant::now(),
        };
        writer.event(0, What::FileVersion("brain.Event:2".into()))?;
        // What is purged begins with the event's own step.
        let start = SessionLog {
            status: SessionStatus::Start.into(),
        };
        writer.event(resume_step.saturating_add(1), What::SessionLog(start))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file that is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a step.
    ///
    /// # Errors
    /// [`ReportError::Io`].
    pub fn write(&mut self, line: &StepMetrics) -> Result<()> {
        self.summary(line.step, convert::step(line))?;
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.flush()?;
        }
        Ok(())
    }

    /// Appends a validation, and writes out what is in memory.
    ///
    /// # Errors
    /// [`ReportError::Io`].
    pub fn write_validation(&mut self, line: &ValidationMetrics) -> Result<()> {
        self.summary(line.step, convert::validation(line))?;
        self.flush()
    }

    /// Writes out what is in memory, so that TensorBoard sees it. Happens by itself every five seconds of steps.
    ///
    /// # Errors
    /// [`ReportError::Io`].
    pub fn flush(&mut self) -> Result<()> {
        self.flushed = Instant::now();
        self.file.flush().map_err(ReportError::io(&self.path))
    }

    fn summary(&mut self, step: u64, value: Vec<Value>) -> Result<()> {
        self.event(step, What::Summary(Summary { value }))
    }

    fn event(&mut self, step: u64, what: What) -> Result<()> {
        let event = Event {
            wall_time: now(),
            step: i64::try_from(step).unwrap_or(i64::MAX),
            what: Some(what),
        };
        record::write(&mut self.file, &event.encode_to_vec()).map_err(ReportError::io(&self.path))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// The second in the name of a folder's newest event file.
fn newest(dir: &Path) -> std::io::Result<Option<u64>> {
    let mut newest = None;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let second = name.to_str().and_then(|name| {
            let rest = name.strip_prefix("events.out.tfevents.")?;
            rest.split('.').next()?.parse().ok()
        });
        newest = newest.max(second);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::super::proto::Datum;
    use super::*;
    use crate::metrics::{RouterMetrics, Sample, Summary as Figures};

    fn events(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).expect("readable");
        let messages = record::read_all(&bytes).expect("whole records");
        let events = messages
            .iter()
            .map(|m| Event::decode(&m[..]).expect("an event"));
        events.collect()
    }

    fn values(event: &Event) -> &[Value] {
        match &event.what {
            Some(What::Summary(summary)) => &summary.value,
            what => panic!("not a summary: {what:?}"),
        }
    }

    fn scalar(event: &Event, tag: &str) -> Option<f32> {
        let value = values(event).iter().find(|value| value.tag == tag)?;
        match value.datum {
            Some(Datum::Scalar(scalar)) => Some(scalar),
            _ => None,
        }
    }

    fn step(step: u64) -> StepMetrics {
        StepMetrics {
            step,
            loss: 2.5,
            ..StepMetrics::default()
        }
    }

    #[test]
    fn events_read_back_with_their_checksums() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut writer = EventWriter::open(&dir.path().join("new"), 0).expect("writable");
        writer.write(&step(1)).expect("writable");
        writer
            .write(&StepMetrics {
                loss: f64::NAN,
                skipped: true,
                depths: vec![0, 4],
                router: Some(RouterMetrics {
                    loss: 0.5,
                    classes: vec![1, 2],
                    targets: Vec::new(),
                    perplexity: 30.0,
                }),
                ..step(2)
            })
            .expect("writable");
        writer
            .write_validation(&ValidationMetrics {
                step: 2,
                validation: Figures {
                    bits_per_byte: 1.25,
                    ..Figures::default()
                },
                samples: vec![Sample::default(), Sample::default()],
                ..ValidationMetrics::default()
            })
            .expect("writable");
        let events = events(writer.path());
        assert_eq!(events.len(), 5);
        assert_eq!(
            events[0].what,
            Some(What::FileVersion("brain.Event:2".into()))
        );
        assert_eq!(
            (events[2].step, scalar(&events[2], "train/loss")),
            (1, Some(2.5))
        );
        assert_eq!(scalar(&events[2], "train/skipped"), None);
        assert!(scalar(&events[3], "train/loss").is_some_and(f32::is_nan));
        assert_eq!(scalar(&events[3], "train/skipped"), Some(1.0));
        assert_eq!(scalar(&events[3], "router/perplexity"), Some(30.0));
        assert_eq!(scalar(&events[4], "validation/bits_per_byte"), Some(1.25));
        let tags: Vec<_> = values(&events[3]).iter().map(|v| v.tag.as_str()).collect();
        assert!(tags.contains(&"train/depths") && tags.contains(&"router/classes"));
        assert!(!tags.contains(&"router/targets"), "nothing was counted");
        assert!(values(&events[4]).iter().any(|v| v.tag == "samples/2"));
    }

    #[test]
    fn a_resumed_run_continues_in_a_later_file_and_takes_back_later_steps() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = |step| EventWriter::open(dir.path(), step).expect("writable");
        let first = open(0);
        let second = open(7);
        assert!(first.path().file_name() < second.path().file_name());
        for (writer, step) in [(first, 1), (second, 8)] {
            let events = events(writer.path());
            assert_eq!(events[1].step, step);
            let Some(What::SessionLog(log)) = &events[1].what else {
                panic!("not a session: {events:?}");
            };
            assert_eq!(log.status(), SessionStatus::Start);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("events");
        std::fs::write(&path, "a file").expect("writable");
        let error = EventWriter::open(&path, 0).expect_err("not a folder");
        assert!(error.to_string().contains("events"), "{error}");
    }
}
