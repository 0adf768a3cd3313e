//! The chat page on this machine: build what chatting needs and nothing else, serve, open.

use std::process::Command;

use anyhow::{Result, bail};

use crate::phases::Phases;
use crate::tools::{self, Background};
use crate::web;

/// The model that ships, relative to the workspace.
const MODEL: &str = "models/technical-10m";

/// What `cargo xtask demo` accepts.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Port to serve on; 0 picks a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Print the address without opening a browser.
    #[arg(long)]
    no_open: bool,
}

/// `cargo xtask demo`.
pub(crate) fn run(args: Args) -> Result<()> {
    let root = tools::root();
    if !root.join(MODEL).join("model.safetensors").is_file() {
        bail!(
            "{MODEL}/model.safetensors is missing: it belongs to the repository, so restore it \
             with `git checkout -- {MODEL}`"
        );
    }
    let mut phases = Phases::default();
    let built = build(&mut phases);
    eprintln!("\n{}", phases.table());
    built?;

    let mut serve = Command::new(tools::built_program("debug", "mor")?);
    serve
        .current_dir(&root)
        .args(["serve", "--dir", "web/dist", "--model", MODEL, "--port"])
        .arg(args.port.to_string());
    if !args.no_open {
        serve.arg("--open");
    }
    tools::run(&mut serve)
}

fn build(phases: &mut Phases) -> Result<()> {
    // Only files are served, so neither training nor the native engine is built; and handing out files
    // needs no optimisation, so the profile is the one that this task was built with, which shares most
    // packages. The page's build has long stretches on one core: the server fits beside it.
    let server = Background::start(tools::cargo().args([
        "build",
        "--quiet",
        "--package",
        "mor-cli",
        "--no-default-features",
        "--features",
        "serve",
    ]))?;
    web::build(phases)?;
    phases.run("server (rest)", || server.finish())
}
