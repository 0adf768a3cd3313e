//! What was kept and what was dropped, as a person reads it.

use std::collections::BTreeMap;

use indicatif::{HumanBytes, HumanCount};
use mor_text::data::{FilterReport, Reason};
use serde_json::Value;

/// Sources shown one by one.
const SHOWN_SOURCES: usize = 40;

/// A line for each source: its rows, how many were kept and of what size, their tokens if they were counted,
/// and why the others were dropped.
pub(super) fn sources(reports: &BTreeMap<String, FilterReport>, outputs: &[&Value]) -> String {
    let mut table = format!(
        "{:<24}{:>12}{:>12}{:>12}{:>14}  dropped\n",
        "source", "rows", "kept", "text", "tokens"
    );
    for (name, report) in reports.iter().take(SHOWN_SOURCES) {
        let tokens = outputs
            .iter()
            .filter_map(|output| output["sources"][name.as_str()]["tokens"].as_u64());
        let tokens = tokens.reduce(|sum, tokens| sum + tokens);
        table += &format!(
            "{:<24}{:>12}{:>12}{:>12}{:>14}  {}\n",
            if name.is_empty() { "(others)" } else { name },
            HumanCount(report.rows).to_string(),
            HumanCount(report.kept).to_string(),
            HumanBytes(report.kept_bytes).to_string(),
            tokens.map_or("-".to_owned(), |tokens| HumanCount(tokens).to_string()),
            summary(report),
        );
    }
    if reports.len() > SHOWN_SOURCES {
        table += &format!("and {} more\n", reports.len() - SHOWN_SOURCES);
    }
    table
}

/// The rows kept, dropped and copied, with the share of each.
pub(super) fn table(report: &FilterReport, copies: &[(&str, u64)]) -> String {
    let share = |count: u64| 100.0 * count as f64 / (report.rows.max(1)) as f64;
    let line = |name: &str, count: u64| {
        format!(
            "{name:<32}{:>12}  {:>5.1} %\n",
            HumanCount(count).to_string(),
            share(count)
        )
    };
    let mut table = line("rows", report.rows);
    for reason in Reason::ALL {
        table += &line(&format!("  {}", reason.describe()), report.dropped(reason));
    }
    table += &line("kept", report.kept);
    for (name, made) in copies {
        table += &line(&format!("  copies, {name}"), *made);
    }
    if report.malformed > 0 {
        table += &format!(
            "{:<32}{:>12}\n",
            "malformed lines",
            HumanCount(report.malformed).to_string()
        );
    }
    table
}

/// The reasons that dropped anything, on one line.
pub(super) fn summary(report: &FilterReport) -> String {
    let reasons: Vec<String> = Reason::ALL
        .iter()
        .filter(|&&reason| report.dropped(reason) > 0)
        .map(|&reason| format!("{} {}", report.dropped(reason), reason.describe()))
        .collect();
    reasons.join(", ")
}
