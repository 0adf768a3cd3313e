//! What was kept and what was dropped, as a person reads it.

use std::collections::BTreeMap;

use indicatif::{HumanBytes, HumanCount};
use mor_text::data::{FilterReport, Reason};
use serde_json::Value;

use crate::output::name;

/// Sources shown one by one.
const SHOWN_SOURCES: usize = 40;
/// Fields that were not used, shown by name.
const SHOWN_FIELDS: usize = 12;

/// A line for each source: its rows, how many were kept and of what size, their tokens if they were counted,
/// and why the others were dropped.
pub(super) fn sources(reports: &BTreeMap<String, FilterReport>, outputs: &[&Value]) -> String {
    let mut table = format!(
        "{:<24}{:>12}{:>12}{:>12}{:>14}  dropped\n",
        "source", "rows", "kept", "text", "tokens"
    );
    for (source, report) in reports.iter().take(SHOWN_SOURCES) {
        let tokens = outputs
            .iter()
            .filter_map(|output| output["sources"][source.as_str()]["tokens"].as_u64());
        let tokens = tokens.reduce(|sum, tokens| sum + tokens);
        let mut remarks = summary(report);
        if report.text_pieces > 0 {
            let comma = if remarks.is_empty() { "" } else { ", " };
            remarks = format!("{}{comma}{remarks}", "(running text, in pieces)");
        }
        table += &format!(
            "{:<24}{:>12}{:>12}{:>12}{:>14}  {remarks}\n",
            match source.as_str() {
                "" => "(others)".to_owned(),
                source => name(source),
            },
            HumanCount(report.rows).to_string(),
            HumanCount(report.kept).to_string(),
            HumanBytes(report.kept_bytes).to_string(),
            tokens.map_or("-".to_owned(), |tokens| HumanCount(tokens).to_string()),
        );
    }
    if reports.len() > SHOWN_SOURCES {
        table += &format!("and {} more\n", reports.len() - SHOWN_SOURCES);
    }
    table
}

/// The rows kept, dropped and copied, with the share of each among all that were read; and the fields of rows that
/// were not used.
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
    for (copy, made) in copies {
        table += &line(&format!("  copies, {}", name(copy)), *made);
    }
    if report.text_pieces > 0 {
        table += &line("  pieces of running text", report.text_pieces);
    }
    if !report.unused.is_empty() {
        let shown = report.unused.iter().take(SHOWN_FIELDS);
        let mut fields: Vec<_> = shown
            .map(|(field, count)| match field.as_str() {
                "" => format!("others × {count}"),
                field => format!("`{}` × {count}", name(field)),
            })
            .collect();
        if report.unused.len() > SHOWN_FIELDS {
            fields.push(format!("{} more", report.unused.len() - SHOWN_FIELDS));
        }
        table += &format!("fields not used: {}\n", fields.join(", "));
    }
    table
}

/// The reasons that dropped anything, on one line.
pub(super) fn summary(report: &FilterReport) -> String {
    let reasons: Vec<String> = Reason::ALL
        .iter()
        .filter(|&&reason| report.dropped(reason) > 0)
        .map(|&reason| {
            let count = HumanCount(report.dropped(reason));
            format!("{count} {}", reason.describe())
        })
        .collect();
    reasons.join(", ")
}
