//! Style: formatting, Clippy, TypeScript.

use anyhow::Result;

use crate::phases::Phases;
use crate::{tools, web};

/// `cargo xtask lint`.
pub(crate) fn run() -> Result<()> {
    let mut phases = Phases::default();
    let outcome = format(&mut phases)
        .and_then(|()| clippy(&mut phases))
        .and_then(|()| {
            phases.run("npm packages", tools::ensure_npm_packages)?;
            // The page imports the types of its WebAssembly module.
            web::bindings(&mut phases)?;
            typescript(&mut phases)
        });
    eprintln!("\n{}", phases.table());
    outcome
}

/// Formatting of the whole workspace.
pub(crate) fn format(phases: &mut Phases) -> Result<()> {
    phases.run("format", || {
        tools::run(tools::cargo().args(["fmt", "--all", "--check"]))
    })
}

/// Clippy of the whole workspace.
pub(crate) fn clippy(phases: &mut Phases) -> Result<()> {
    phases.run("Clippy", || {
        let clippy = ["clippy", "--workspace", "--all-targets"];
        tools::run(
            tools::cargo()
                .args(clippy)
                .args(tools::features()?)
                .args(["--", "-D", "warnings"]),
        )
    })
}

/// The types of the page. Needs the npm packages and web/pkg.
pub(crate) fn typescript(phases: &mut Phases) -> Result<()> {
    phases.run("TypeScript", || {
        tools::run(tools::npm().args(["run", "check"]))
    })
}
