//! Comparisons with the CPU.

use serde::{Deserialize, Serialize};

use crate::{Outcome, Problem, Status};

/// A comparison with the CPU.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Check {
    /// What was compared.
    pub what: String,
    /// The kernels, `portable`, `workgroup` or `subgroup`, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How weights or rows are stored, `f32`, `f16` or `q8`, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// What came of it.
    pub status: Status,
    /// Comparisons that were made.
    pub cases: usize,
    /// Cases that were left out: for want of time, or because a software GPU takes minutes to compile them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cases_left_out: usize,
    /// The largest difference; absent where ids or steps alone were compared, or a number was not finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<f64>,
    /// The largest one that is allowed, for the case with the largest difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<f64>,
    /// Why it failed or did not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Check {
    /// Something that is yet to be compared.
    pub(crate) fn new(
        what: impl Into<String>,
        variant: Option<&str>,
        storage: Option<&str>,
    ) -> Self {
        Self {
            what: what.into(),
            variant: variant.map(str::to_owned),
            storage: storage.map(str::to_owned),
            status: Status::Passed,
            cases: 0,
            cases_left_out: 0,
            difference: None,
            allowed: None,
            reason: None,
        }
    }

    /// It did not run.
    pub(crate) fn skip(mut self, reason: impl Into<String>) -> Self {
        self.status = Status::Skipped;
        self.reason = Some(reason.into());
        self
    }

    /// Adds a case: how far it was off, and how far it may be.
    pub(crate) fn case(&mut self, case: &str, difference: f64, allowed: f64) {
        self.cases += 1;
        let worst = self.difference.is_none_or(|most| difference > most);
        if worst && difference.is_finite() {
            (self.difference, self.allowed) = (Some(difference), Some(allowed));
        }
        // So that what is no number fails too.
        let close = difference <= allowed;
        if !close {
            let reason = match difference.is_finite() {
                true => {
                    format!("{case} differs by {difference:.1e}, where {allowed:.1e} is allowed")
                }
                false => format!(
                    "{case} gave a number that is not finite, or the wrong number of values"
                ),
            };
            self.fail(reason);
        }
    }

    /// Adds a case that is right or wrong.
    pub(crate) fn exact(&mut self, right: bool, reason: impl FnOnce() -> String) {
        self.cases += 1;
        if !right {
            self.fail(reason());
        }
    }

    /// It was wrong; the first reason stays.
    pub(crate) fn fail(&mut self, reason: String) {
        self.status = Status::Failed;
        self.reason.get_or_insert(reason);
    }

    /// Ends it as a piece of a part ended.
    pub(crate) fn end(mut self, outcome: Outcome) -> Self {
        match outcome {
            Ok(()) => self,
            Err(Problem::Skipped(reason)) => self.skip(reason),
            Err(Problem::Failed(reason)) => {
                self.fail(reason);
                self
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_with_no_number_fails() {
        let mut check = Check::new("x", None, None);
        check.case("none", f64::NAN, 1.0);
        assert_eq!(check.status, Status::Failed);
    }
}
