//! The report as a page of text.

use std::fmt::Write;

use crate::{Adapter, Check, PartReport, Report, Speed, Status, System, TrainingSpeed};

impl Report {
    /// A page to read, with a final newline: [`Self::header`], what each part found, and [`Self::verdict`].
    pub fn to_page(&self) -> String {
        let parts = self.parts.iter().map(PartReport::to_page);
        format!(
            "{}{}{}",
            self.header(),
            parts.collect::<String>(),
            self.verdict()
        )
    }

    /// What ran, and where.
    pub fn header(&self) -> String {
        let System {
            os,
            arch,
            isa,
            threads,
        } = &self.system;
        format!(
            "{}, {os} on {arch}, {isa} kernels, {threads} threads\n",
            self.program
        )
    }

    /// Whether a part failed, and which.
    pub fn verdict(&self) -> String {
        let verdict = match self.failed().as_slice() {
            [] => "no part failed".to_owned(),
            failed => format!("FAILED: {}", failed.join(", ")),
        };
        format!("\n{verdict}, in {:.0} s\n", self.seconds)
    }
}

impl PartReport {
    /// What it found, in lines after an empty one.
    pub fn to_page(&self) -> String {
        let mut page = "\n".to_owned();
        let title = crate::Part::named(&self.name).map_or("", |part| part.title());
        let verdict = match self.status {
            Status::Passed => "passed",
            Status::Failed => "FAILED",
            Status::Skipped => "skipped",
        };
        let _ = write!(
            page,
            "{verdict:<8}{}: {title} ({:.1} s)",
            self.name, self.seconds
        );
        let _ = match &self.reason {
            Some(reason) => writeln!(page, ": {reason}"),
            None => writeln!(page),
        };
        if let Some(adapter) = &self.adapter {
            adapter.write(&mut page);
        }
        write_checks(&self.checks, &mut page);
        if let Some(copy) = self.copy_bytes_per_second {
            let _ = writeln!(page, "  a plain copy moves {:.1} GB/s", copy / 1e9);
        }
        if !self.speeds.is_empty() {
            let _ = writeln!(
                page,
                "  {:<28}{:<5}{:<10}{:>9}{:>10}{:>9}{:>9}",
                "tokens a second", "", "", "decode", "prefill", "GB/s", "copy"
            );
        }
        self.speeds.iter().for_each(|speed| speed.write(&mut page));
        for (precision, flops) in &self.product_flops_per_second {
            let _ = writeln!(
                page,
                "  a plain product in {precision} makes {:.1} GFLOP/s",
                flops / 1e9
            );
        }
        if !self.training.is_empty() {
            let _ = writeln!(
                page,
                "  {:<28}{:<5}{:>9}{:>10}{:>12}{:>10}{:>9}",
                "training", "", "tokens/s", "launches", "memory", "GFLOP/s", "product"
            );
        }
        self.training
            .iter()
            .for_each(|speed| speed.write(&mut page));
        page
    }
}

impl Adapter {
    fn write(&self, page: &mut String) {
        let [least, most] = self.subgroup_sizes;
        let _ = writeln!(
            page,
            "  {} ({}), {}: {}\n  {} kernels, subgroups of {least} to {most}; trains on {}, f16 {}",
            self.name,
            self.backend,
            self.kind,
            self.driver,
            self.variant,
            self.training,
            if self.trains_in_f16 { "too" } else { "missing" },
        );
    }
}

/// A line for each thing that was compared, with the largest difference among variants and storages; and one for each
/// check that failed.
fn write_checks(checks: &[Check], page: &mut String) {
    let mut seen: Vec<&str> = Vec::new();
    for check in checks {
        if seen.contains(&check.what.as_str()) {
            continue;
        }
        seen.push(&check.what);
        let same: Vec<&Check> = checks.iter().filter(|c| c.what == check.what).collect();
        let count = |status| same.iter().filter(|c| c.status == status).count();
        let cases: usize = same.iter().map(|c| c.cases).sum();
        let left_out: usize = same.iter().map(|c| c.cases_left_out).sum();
        let worst = same.iter().filter_map(|c| c.difference).reduce(f64::max);
        let _ = write!(page, "  {:<56}{cases:>5} cases", check.what);
        if let Some(worst) = worst {
            let _ = write!(page, ", off by {worst:.1e}");
        }
        if left_out > 0 {
            let _ = write!(page, ", {left_out} left out");
        }
        let skipped = count(Status::Skipped);
        if skipped > 0 {
            let reason = same.iter().find(|c| c.status == Status::Skipped);
            let reason = reason.and_then(|c| c.reason.as_deref()).unwrap_or_default();
            let _ = write!(page, ", {skipped} of {} skipped: {reason}", same.len());
        }
        page.push('\n');
        for failed in same.iter().filter(|c| c.status == Status::Failed) {
            let how = [&failed.variant, &failed.storage].map(|x| x.as_deref().unwrap_or(""));
            let reason = failed.reason.as_deref().unwrap_or("no reason given");
            let how = how.join(" ");
            let _ = writeln!(page, "    FAILED {} {}: {reason}", failed.what, how.trim());
        }
    }
}

/// The preset, and how much of it ran.
fn name(preset: &str, whole: bool) -> String {
    match whole {
        true => preset.to_owned(),
        false => format!("{preset} (part)"),
    }
}

impl Speed {
    fn write(&self, page: &mut String) {
        let _ = write!(
            page,
            "  {:<28}{:<5}{:<10}",
            name(&self.preset, self.whole),
            self.storage,
            self.variant
        );
        if self.parameters > 0 {
            let _ = write!(
                page,
                "{:>9.1}{:>10.0}{:>9.2}{:>7.0} %",
                self.decode_tokens_per_second,
                self.prefill_tokens_per_second,
                self.bytes_per_second / 1e9,
                100.0 * self.share_of_copy
            );
        }
        end(self.status, self.reason.as_deref(), page);
    }
}

impl TrainingSpeed {
    fn write(&self, page: &mut String) {
        let _ = write!(
            page,
            "  {:<28}{:<5}",
            name(&self.preset, self.whole),
            self.precision
        );
        if self.parameters > 0 {
            let _ = write!(
                page,
                "{:>9.0}{:>10}{:>9.0} MB{:>10.1}{:>7.1} %",
                self.tokens_per_second,
                self.launches_per_step,
                self.bytes_reserved as f64 / 1e6,
                self.flops_per_second / 1e9,
                100.0 * self.share_of_product
            );
        }
        end(self.status, self.reason.as_deref(), page);
    }
}

fn end(status: Status, reason: Option<&str>, page: &mut String) {
    let _ = match (status, reason) {
        (Status::Passed, None) => writeln!(page),
        (Status::Passed, Some(reason)) => writeln!(page, "  {reason}"),
        (Status::Failed, reason) => writeln!(page, "  FAILED: {}", reason.unwrap_or_default()),
        (Status::Skipped, reason) => writeln!(page, "  skipped: {}", reason.unwrap_or_default()),
    };
}

#[cfg(test)]
mod tests {
    use crate::{Check, Part, PartReport, Report};

    #[test]
    fn what_failed_and_what_was_skipped_is_on_the_page() {
        let mut part = PartReport::new(Part::Operations);
        let mut right = Check::new("gelu", Some("portable"), Some("f32"));
        right.case("small", 2e-6, 2e-5);
        let mut wrong = Check::new("gelu", Some("subgroup"), Some("f32"));
        wrong.case("large", 0.5, 2e-5);
        let left_out = Check::new("gelu", Some("workgroup"), Some("f32")).skip("no time");
        part.checks = vec![right, wrong, left_out];
        part.end(Ok(()));
        let mut report = Report::new(1.0);
        report.add(part);
        report.add(PartReport::skipped(Part::Answers, "no model".to_owned()));
        let page = report.to_page();
        for text in [
            "FAILED  operations",
            "FAILED gelu subgroup f32: large differs by 5.0e-1",
            "1 of 3 skipped: no time",
            "skipped answers",
            "no model",
            "FAILED: operations,",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
    }
}
