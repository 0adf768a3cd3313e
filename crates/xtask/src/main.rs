//! Project tasks: everything continuous integration does, by hand.
//!
//! `cargo xtask demo` opens the chat page, `cargo xtask test` checks the whole project,
//! `cargo xtask web` builds the page, `cargo xtask bench` times it, `cargo xtask lint` checks the style alone, and
//! `cargo xtask dist` packs the program for this platform.

mod bench;
mod demo;
mod dist;
mod lint;
mod notices;
mod phases;
mod slowest;
mod test;
mod tools;
mod vulkan;
mod web;

#[cfg(test)]
mod docs;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Project tasks: demo, test, web, bench, lint, dist.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Build the chat page and the server, then open the page in a browser.
    Demo(demo::Args),
    /// Check everything: style, unit and cross-crate tests, the page in a real browser.
    Test(test::Args),
    /// Build the chat page into web/dist, which any static server can host.
    Web,
    /// Compare the engine in the browser with the native one.
    Bench(bench::Args),
    /// Check formatting, Clippy and TypeScript.
    Lint,
    /// Build the page and check its types; a part of `test`.
    #[command(hide = true)]
    PageBuild,
    /// Test the page in a browser, as built; a part of `test`.
    #[command(hide = true)]
    PageTest,
    /// Pack the program for this platform into target/dist, with the model that ships and all licences.
    Dist(dist::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Demo(args) => demo::run(args),
        Task::Test(args) => test::run(args),
        Task::Web => web::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Lint => lint::run(),
        Task::PageBuild => test::page_build(),
        Task::PageTest => test::page_test(),
        Task::Dist(args) => dist::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
