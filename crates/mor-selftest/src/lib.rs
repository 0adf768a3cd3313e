//! Everything that the project computes on a GPU, compared with the CPU, and how fast it is there: what `mor selftest`
//! runs. It needs no files: goldens are compiled in, and other models are made from fixed seeds.
//!
//! The test is made of [`Part`]s. [`run_part`] runs one of them within a time: whatever goes wrong in it, panics
//! included, is named in its [`PartReport`]. [`Report`] holds them all, as JSON or as a page of text.
//!
//! ```
//! use mor_selftest::{Part, PartReport, Report};
//!
//! let mut report = Report::new(8.0);
//! report.add(PartReport::skipped(Part::Answers, "no model".to_owned()));
//! report.add(PartReport::failed(Part::Speed, "the driver crashed".to_owned()));
//! assert_eq!(report.failed(), ["speed"]);
//! println!("{}", report.to_page());
//! ```

mod adapter;
mod agreement;
mod answers;
mod budget;
mod check;
mod figures;
mod goldens;
mod isolate;
mod kernels;
mod losses;
mod operations;
mod page;
mod part;
mod report;
mod speed;
mod training;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use budget::Budget;
pub use check::Check;
pub use figures::{Speed, TrainingSpeed};
use isolate::isolated;
pub use mor_engine::gpu::Replacement;
pub use part::Part;
pub use report::{Adapter, PartReport, REPORT_VERSION, Report, Status, System};

/// How a part runs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Folder of the model whose answers are compared; without one that part is skipped.
    pub model: Option<PathBuf>,
    /// Another text for one operation's shaders, for tests of what notices a broken one.
    pub replacement: Option<Replacement>,
    /// Called as each part begins, for tests of what happens when one panics.
    pub before: Option<fn(Part)>,
}

/// Why a part did not pass.
#[derive(Debug)]
enum Problem {
    Failed(String),
    Skipped(String),
}

impl Problem {
    /// What it makes of the thing that it happened to.
    fn into_status(self) -> (Status, Option<String>) {
        match self {
            Self::Failed(reason) => (Status::Failed, Some(reason)),
            Self::Skipped(reason) => (Status::Skipped, Some(reason)),
        }
    }
}

impl<E: std::error::Error> From<E> for Problem {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.ends_with(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        Self::Failed(text)
    }
}

/// What came of a part, or of a piece of it.
type Outcome<T = ()> = Result<T, Problem>;

/// What every part works with.
struct Context<'a> {
    options: &'a Options,
    budget: Budget,
    /// What was found so far: it stays when the part fails.
    found: PartReport,
}

/// Runs a part within about `seconds`: it does less where time is short, but never less than there is of each kind.
pub fn run_part(part: Part, seconds: f64, options: &Options) -> PartReport {
    // Kernels' variants are a property of the process.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let started = Instant::now();
    let mut context = Context {
        options,
        budget: Budget::new(seconds),
        found: PartReport::new(part),
    };
    let outcome = isolated(|| {
        if let Some(before) = options.before {
            before(part);
        }
        match part {
            Part::Adapter => adapter::run(&mut context),
            Part::Operations => operations::run(&mut context),
            Part::Goldens => goldens::run(&mut context),
            Part::Answers => answers::run(&mut context),
            Part::Speed => speed::run(&mut context),
            Part::Training => training::run(&mut context),
            Part::Losses => losses::run(&mut context),
        }
    });
    let mut found = context.found;
    found.seconds = started.elapsed().as_secs_f64();
    found.end(outcome);
    found
}

/// Runs every part, one after the other in this process, within about so many minutes, and tells `progress` of each as it
/// ends. `mor selftest` gives each part a process of its own instead, so that not even a driver that crashes ends the
/// others.
pub fn run(minutes: f64, options: &Options, mut progress: impl FnMut(&PartReport)) -> Report {
    let mut report = Report::new(minutes);
    let started = Instant::now();
    for part in Part::ALL {
        let found = run_part(part, part.seconds(minutes), options);
        progress(&found);
        report.add(found);
    }
    report.seconds = started.elapsed().as_secs_f64();
    report
}
