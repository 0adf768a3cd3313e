//! Named, timed phases and the table of where the time went.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

struct Phase {
    name: &'static str,
    took: Duration,
    passed: bool,
}

/// The phases of one task, in the order they ran.
#[derive(Default)]
pub(crate) struct Phases {
    done: Vec<Phase>,
}

impl Phases {
    /// Runs `work` under `name` and records how long it took, whether or not it succeeded.
    pub(crate) fn run<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        eprintln!("\n== {name}");
        let started = Instant::now();
        let outcome = work();
        self.done.push(Phase {
            name,
            took: started.elapsed(),
            passed: outcome.is_ok(),
        });
        outcome
    }

    /// One line per phase with its time, and the total.
    pub(crate) fn table(&self) -> String {
        let width = self
            .done
            .iter()
            .map(|phase| phase.name.len())
            .max()
            .unwrap_or(0)
            .max("total".len());
        let mut table = String::new();
        for phase in &self.done {
            let mark = if phase.passed { "" } else { "  FAILED" };
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "{:<width$}  {:>8}{mark}",
                phase.name,
                seconds(phase.took)
            );
        }
        let total = self.done.iter().map(|phase| phase.took).sum();
        let _ = writeln!(table, "{:<width$}  {:>8}", "total", seconds(total));
        table
    }
}

/// A duration to a tenth of a second, with minutes once there are any.
fn seconds(duration: Duration) -> String {
    let tenths = duration.as_millis().div_ceil(100);
    let (minutes, tenths) = (tenths / 600, tenths % 600);
    if minutes == 0 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else {
        format!("{minutes} m {:02} s", tenths / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1240)), "1.3 s");
        assert_eq!(seconds(Duration::from_secs(59)), "59.0 s");
        assert_eq!(seconds(Duration::from_secs(754)), "12 m 34 s");
    }

    #[test]
    fn a_failed_phase_is_recorded_and_marked() {
        let mut phases = Phases::default();
        assert!(phases.run("format", || Ok(())).is_ok());
        assert!(
            phases
                .run::<()>("unit tests", || anyhow::bail!("no"))
                .is_err()
        );
        let table = phases.table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("format      ") && !lines[0].contains("FAILED"));
        assert!(lines[1].starts_with("unit tests") && lines[1].ends_with("FAILED"));
        assert!(lines[2].starts_with("total"));
    }
}
