//! `report.html`: a run on one page that needs nothing else, neither network nor script.

mod figures;
mod view;

use std::path::Path;

use minijinja::{Environment, context};

use crate::chart::palette;
use crate::history::History;
use crate::{ReportError, Result};

const TEMPLATE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");

/// What a report says about a run besides its metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// The page's heading, such as the run's name.
    pub title: String,
    /// Names and values in the order of the table: parameters, seed, program version, data, command.
    pub facts: Vec<(String, String)>,
}

/// Writes the page of the run whose `metrics.jsonl` is `metrics` as `output`, whole or not at all; to a device as to a
/// file.
///
/// The metrics are read line by line and thinned to 1500 points, with the range of what each stands for. Lines that
/// are not metrics are left out, and the page says how many.
///
/// # Errors
/// [`ReportError::Io`] if the metrics cannot be read or the page cannot be written, [`ReportError::Page`] if it
/// cannot be drawn.
///
/// ```
/// use mor_report::metrics::StepMetrics;
/// use mor_report::{MetricsFile, RunFacts, write_report};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let path = folder.join("metrics.jsonl");
/// let mut metrics = MetricsFile::open(&path, 0)?;
/// for step in 1..=3 {
///     metrics.write(&StepMetrics { step, loss: 9.0 / step as f64, ..StepMetrics::default() })?;
/// }
/// let run = RunFacts { title: "a short run".into(), facts: vec![("Seed".into(), "1".into())] };
/// let page = folder.join("report.html");
/// write_report(&path, &run, &page)?;
/// assert!(std::fs::read_to_string(&page)?.contains("a short run"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_report(metrics: &Path, run: &RunFacts, output: &Path) -> Result<()> {
    let history = History::read(metrics)?;
    let page = render(&history, run).map_err(|reason| ReportError::Page {
        path: output.to_owned(),
        reason,
    })?;
    Ok(mor_files::write_through(output, page.as_bytes())?)
}

fn render(history: &History, run: &RunFacts) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    // A name that ends in .html turns escaping on. What is marked safe in the template comes from this crate alone.
    environment
        .render_named_str(
            "report.html",
            TEMPLATE,
            context! {
                title => run.title,
                style => STYLE,
                light => palette::properties(false),
                dark => palette::properties(true),
                inks => palette::rules(),
                tiles => view::tiles(history),
                figures => figures::figures(history)?,
                facts => run.facts,
                validations => view::validations(history),
                answers => view::answers(history),
                notes => view::notes(history),
            },
        )
        .map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests;
