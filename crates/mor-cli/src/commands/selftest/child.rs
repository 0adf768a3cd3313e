//! A part of the self-test in a process of its own.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use mor_selftest::{Part, PartReport};

/// Seconds that a part may take beyond three times its share: what it always does takes as long as it takes.
const PATIENCE: f64 = 240.0;

/// Runs a part in another process of this program, and ends that where it does not answer.
pub(super) fn run(part: Part, minutes: f64, model: Option<&Path>) -> PartReport {
    start(part, minutes, model)
        .unwrap_or_else(|error| PartReport::failed(part, format!("{error:#}")))
}

fn start(part: Part, minutes: f64, model: Option<&Path>) -> Result<PartReport> {
    let program = std::env::current_exe().context("this program's own file is not known")?;
    let mut command = Command::new(program);
    command
        .args(["selftest", "--in-this-process", "--part", part.name()])
        .args(["--minutes", &minutes.to_string()]);
    if let Some(model) = model {
        command.arg("--model").arg(model);
    }
    answer(command, 3.0 * part.seconds(minutes) + PATIENCE)
}

/// What a command prints as a part's report.
fn answer(mut command: Command, seconds: f64) -> Result<PartReport> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.context("its process does not start")?;
    let mut output = child.stdout.take().context("its process has no output")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = output.read_to_end(&mut text).map(|_| text);
        // Nobody waits any more if this fails.
        let _ = sender.send(read);
    });
    let text = match receiver.recv_timeout(Duration::from_secs_f64(seconds)) {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => {
            end(&mut child)?;
            return Err(error).context("its answer could not be read");
        }
        Err(RecvTimeoutError::Timeout) => {
            end(&mut child)?;
            bail!(
                "it did not answer within {seconds:.0} s and was stopped; if the GPU is only slow, give more --minutes"
            );
        }
        Err(RecvTimeoutError::Disconnected) => Vec::new(),
    };
    let status = child.wait()?;
    let text = String::from_utf8_lossy(&text);
    // Drivers may print lines of their own.
    let mut lines = text.lines().rev();
    let report = lines.find_map(|line| PartReport::from_json(line.trim()).ok());
    report.ok_or_else(|| without_answer(status))
}

fn end(child: &mut Child) -> std::io::Result<()> {
    child.kill()?;
    child.wait().map(|_| ())
}

fn without_answer(status: ExitStatus) -> anyhow::Error {
    // "signal: 11 (SIGSEGV) (core dumped)" or "exit status: 101".
    anyhow!("its process ended without an answer ({status}), as when a driver crashes")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, seconds: f64) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let error = answer(command, seconds).expect_err("no report");
        error.to_string()
    }

    #[test]
    fn a_process_that_crashes_or_hangs_is_named() {
        let crashed = shell("kill -SEGV $$", 60.0);
        assert!(crashed.contains("signal: 11"), "{crashed}");
        let silent = shell("echo nothing; exit 3", 60.0);
        assert!(silent.contains("exit status: 3"), "{silent}");
        let hung = shell("exec sleep 600", 0.2);
        assert!(hung.contains("did not answer within 0 s"), "{hung}");
    }

    #[test]
    fn a_report_is_read() {
        let report = PartReport::skipped(Part::Answers, "no model".to_owned());
        let mut command = Command::new("printf");
        command.args(["a driver's words\n%s\n", &report.to_json()]);
        let found = answer(command, 60.0).expect("a report");
        assert_eq!(found.to_json(), report.to_json());
    }
}
