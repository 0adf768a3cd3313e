//! The tests that took longest, from the reports that the test runners leave.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

/// How many are shown.
const SHOWN: usize = 20;

/// A test and how long it took.
#[derive(Debug, PartialEq)]
struct Timed {
    name: String,
    took: Duration,
}

/// The slowest tests of some runs.
#[derive(Default)]
pub(crate) struct Slowest {
    tests: Vec<Timed>,
}

impl Slowest {
    /// Adds the tests of a report in JUnit's format, if one was written `since` then: a run that did not come so far
    /// leaves an earlier one in place.
    pub(crate) fn add(&mut self, report: &Path, since: SystemTime) -> Result<()> {
        let written = std::fs::metadata(report).and_then(|data| data.modified());
        if written.map_or(true, |written| written < since) {
            return Ok(());
        }
        let text = std::fs::read_to_string(report)
            .with_context(|| format!("cannot read {}", report.display()))?;
        let tests = read(&text).with_context(|| report.display().to_string())?;
        self.tests.extend(tests);
        Ok(())
    }

    /// One line for each, the slowest first; nothing if no report was read.
    pub(crate) fn table(&mut self) -> String {
        self.tests.sort_by_key(|test| std::cmp::Reverse(test.took));
        let mut table = String::new();
        for test in self.tests.iter().take(SHOWN) {
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{:>7.1} s  {}", test.took.as_secs_f64(), test.name);
        }
        table
    }
}

/// The tests of a report, named by file and test.
fn read(report: &str) -> Result<Vec<Timed>> {
    let document = roxmltree::Document::parse(report).context("not a report in JUnit's format")?;
    let cases = document
        .descendants()
        .filter(|node| node.has_tag_name("testcase"));
    cases
        .map(|case| {
            let attribute = |name| case.attribute(name).unwrap_or_default();
            let seconds: f64 = attribute("time")
                .parse()
                .with_context(|| format!("a test has the time {:?}", attribute("time")))?;
            Ok(Timed {
                name: format!("{} {}", attribute("classname"), attribute("name")),
                took: Duration::try_from_secs_f64(seconds)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="all"><testsuite name="a">
  <testcase name="quick" classname="mor-text" time="0.1"/>
  <testcase name="one &amp; all" classname="chat.spec.ts" time="61.26"><system-out>x</system-out></testcase>
</testsuite></testsuites>"#;

    #[test]
    fn the_slowest_come_first() {
        let dir = std::env::temp_dir().join(format!("mor-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("junit.xml");
        std::fs::write(&path, REPORT).unwrap();
        let mut slowest = Slowest::default();
        slowest.add(&path, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(
            slowest.table(),
            "   61.3 s  chat.spec.ts one & all\n    0.1 s  mor-text quick\n"
        );
        // A report of an earlier run, or none.
        let later = SystemTime::now() + Duration::from_secs(60);
        let mut nothing = Slowest::default();
        nothing.add(&path, later).unwrap();
        nothing
            .add(&dir.join("none.xml"), SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(nothing.table(), "");
        std::fs::write(&path, "{}").unwrap();
        assert!(nothing.add(&path, SystemTime::UNIX_EPOCH).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
