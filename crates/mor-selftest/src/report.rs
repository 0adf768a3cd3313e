//! What the self-test found, as JSON; `docs/selftest.md` documents every field.

use std::collections::BTreeMap;

use mor_engine::Isa;
use serde::{Deserialize, Serialize};

use crate::{Check, Outcome, Part, Problem, Speed, TrainingSpeed};

/// Version of the report's fields: another one means that some changed their meaning or went away.
pub const REPORT_VERSION: u32 = 1;

/// Everything that was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Program and its version.
    pub program: String,
    /// Where it ran.
    pub system: System,
    /// Minutes that it was given.
    pub minutes: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Whether no part failed.
    pub passed: bool,
    /// The parts, in the order in which they ran.
    pub parts: Vec<PartReport>,
}

/// The machine, but for its GPU.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct System {
    /// Operating system.
    pub os: String,
    /// Kind of processor.
    pub arch: String,
    /// Instruction set of the CPU's kernels.
    pub isa: String,
    /// Processors.
    pub threads: usize,
}

/// What came of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It ran and was right.
    Passed,
    /// It was wrong, or could not be finished.
    Failed,
    /// It did not run.
    Skipped,
}

/// What a part found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartReport {
    /// Its short name.
    pub name: String,
    /// What came of it.
    pub status: Status,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds that it took.
    pub seconds: f64,
    /// The adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Adapter>,
    /// Comparisons with the CPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Bytes a second that a plain copy kernel moves, reading and writing counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_bytes_per_second: Option<f64>,
    /// Speeds of decoding and prefill.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speeds: Vec<Speed>,
    /// Operations a second of a plain matrix product, by precision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub product_flops_per_second: BTreeMap<String, f64>,
    /// Speeds of training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub training: Vec<TrainingSpeed>,
}

/// An adapter, as its driver describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    /// `Vulkan`, `Metal` or `Dx12`.
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` or `Other`.
    pub kind: String,
    /// Number of the vendor.
    pub vendor: u32,
    /// Number of the device among the vendor's.
    pub device: u32,
    /// Whether it is the processor.
    pub software: bool,
    /// The kernels that suit it.
    pub variant: String,
    /// The adapter that training runs on, which another library looks for.
    pub training: String,
    /// Whether it trains in f16.
    pub trains_in_f16: bool,
    /// The fewest and most invocations of a subgroup.
    pub subgroup_sizes: [u32; 2],
    /// Names of its features.
    pub features: Vec<String>,
    /// Limits by WebGPU's names.
    pub limits: BTreeMap<String, u64>,
}

impl Report {
    /// An empty one.
    pub fn new(minutes: f64) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            version: REPORT_VERSION,
            program: format!("mor {}", env!("CARGO_PKG_VERSION")),
            system: System {
                os: std::env::consts::OS.to_owned(),
                arch: std::env::consts::ARCH.to_owned(),
                isa: Isa::best().name().to_owned(),
                threads,
            },
            minutes,
            seconds: 0.0,
            passed: true,
            parts: Vec::new(),
        }
    }

    /// Adds what a part found.
    pub fn add(&mut self, part: PartReport) {
        self.passed &= part.status != Status::Failed;
        self.parts.push(part);
    }

    /// Names of the parts that failed.
    pub fn failed(&self) -> Vec<&str> {
        let failed = self.parts.iter();
        let failed = failed.filter(|part| part.status == Status::Failed);
        failed.map(|part| part.name.as_str()).collect()
    }

    /// The JSON text, with a final newline.
    pub fn to_json(&self) -> String {
        // Plain structs of numbers and strings: nothing in it can fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl PartReport {
    /// Nothing found yet.
    pub fn new(part: Part) -> Self {
        Self {
            name: part.name().to_owned(),
            status: Status::Passed,
            reason: None,
            seconds: 0.0,
            adapter: None,
            checks: Vec::new(),
            copy_bytes_per_second: None,
            speeds: Vec::new(),
            product_flops_per_second: BTreeMap::new(),
            training: Vec::new(),
        }
    }

    /// A part that could not be finished.
    pub fn failed(part: Part, reason: String) -> Self {
        Self {
            status: Status::Failed,
            reason: Some(reason),
            ..Self::new(part)
        }
    }

    /// A part that did not run.
    pub fn skipped(part: Part, reason: String) -> Self {
        Self {
            status: Status::Skipped,
            reason: Some(reason),
            ..Self::new(part)
        }
    }

    /// The part as a child process printed it.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Its JSON text, on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Sets the status from how the part ended and from what it found.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        let checks = self.checks.iter().map(|check| check.status);
        let speeds = self.speeds.iter().map(|speed| speed.status);
        let training = self.training.iter().map(|speed| speed.status);
        let all: Vec<Status> = checks.chain(speeds).chain(training).collect();
        let count = |status| all.iter().filter(|other| **other == status).count();
        let (failed, skipped) = (count(Status::Failed), count(Status::Skipped));
        (self.status, self.reason) = match outcome {
            Err(Problem::Failed(reason)) => (Status::Failed, Some(reason)),
            Ok(()) | Err(_) if failed > 0 => {
                let reason = format!("{failed} of {} failed", all.len());
                (Status::Failed, Some(reason))
            }
            Err(Problem::Skipped(reason)) => (Status::Skipped, Some(reason)),
            Ok(()) if skipped == all.len() && skipped > 0 => {
                (Status::Skipped, Some("nothing of it ran".to_owned()))
            }
            Ok(()) => (Status::Passed, None),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_decides_and_survives_its_text() {
        let mut part = PartReport::new(Part::Operations);
        let mut check = Check::new("gelu", Some("portable"), Some("f32"));
        check.case("small", 1e-6, 2e-5);
        check.case("large", 3e-6, 1e-5);
        assert_eq!(check.status, Status::Passed);
        assert_eq!((check.difference, check.allowed), (Some(3e-6), Some(1e-5)));
        part.checks.push(check.clone());
        part.checks
            .push(Check::new("rest", None, None).skip("no time"));
        part.end(Ok(()));
        assert_eq!((part.status, part.reason.clone()), (Status::Passed, None));

        check.case("bad", f64::INFINITY, 1e-5);
        assert_eq!(check.status, Status::Failed);
        assert!(
            check
                .reason
                .as_deref()
                .is_some_and(|text| text.contains("bad"))
        );
        part.checks.push(check);
        part.end(Ok(()));
        assert_eq!(part.reason.as_deref(), Some("1 of 3 failed"));

        let read = PartReport::from_json(&part.to_json()).expect("its own");
        assert_eq!(read.to_json(), part.to_json());
        let mut report = Report::new(1.0);
        report.add(PartReport::skipped(Part::Answers, "no model".to_owned()));
        assert!(report.passed);
        report.add(read);
        assert!(!report.passed);
        assert_eq!(report.failed(), ["operations"]);
    }
}
