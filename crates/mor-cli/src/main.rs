//! The `mor` program: train, evaluate, chat with and serve mixture-of-recursions models.

#[macro_use]
mod output;

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg(feature = "train")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Train, evaluate, chat with and serve mixture-of-recursions language models.
///
/// Exit codes: 0 when all went well, 1 when the command failed, 2 when it was used wrongly.
#[derive(Parser)]
#[command(name = "mor", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "model")]
    Tokenizer(commands::tokenizer::Args),
    #[cfg(feature = "model")]
    Data(commands::data::Args),
    #[cfg(feature = "train")]
    Train(commands::train::Args),
    #[cfg(feature = "train")]
    Eval(commands::eval::Args),
    #[cfg(feature = "train")]
    Frontier(commands::frontier::Args),
    #[cfg(feature = "train")]
    Gate(commands::gate::Args),
    #[cfg(feature = "model")]
    Import(commands::import::Args),
    #[cfg(feature = "model")]
    Export(commands::export::Args),
    #[cfg(feature = "model")]
    Generate(commands::generate::Args),
    #[cfg(feature = "model")]
    Chat(commands::chat::Args),
    #[cfg(feature = "model")]
    Info(commands::info::Args),
    #[cfg(feature = "model")]
    Logits(commands::logits::Args),
    #[cfg(feature = "model")]
    Bench(commands::bench::Args),
    #[cfg(feature = "gpu")]
    Devices(commands::devices::Args),
    #[cfg(feature = "selftest")]
    Selftest(commands::selftest::Args),
    #[cfg(feature = "serve")]
    Serve(commands::serve::Args),
}

fn main() -> ExitCode {
    #[cfg(feature = "model")]
    mor_text::bound_threads();
    let result = match Cli::parse().command {
        #[cfg(feature = "model")]
        Command::Tokenizer(args) => commands::tokenizer::run(args),
        #[cfg(feature = "model")]
        Command::Data(args) => commands::data::run(args),
        #[cfg(feature = "train")]
        Command::Train(args) => commands::train::run(args),
        #[cfg(feature = "train")]
        Command::Eval(args) => commands::eval::run(args),
        #[cfg(feature = "train")]
        Command::Frontier(args) => commands::frontier::run(args),
        #[cfg(feature = "train")]
        Command::Gate(args) => commands::gate::run(args),
        #[cfg(feature = "model")]
        Command::Import(args) => commands::import::run(args),
        #[cfg(feature = "model")]
        Command::Export(args) => commands::export::run(args),
        #[cfg(feature = "model")]
        Command::Generate(args) => commands::generate::run(args),
        #[cfg(feature = "model")]
        Command::Chat(args) => commands::chat::run(args),
        #[cfg(feature = "model")]
        Command::Info(args) => commands::info::run(args),
        #[cfg(feature = "model")]
        Command::Logits(args) => commands::logits::run(args),
        #[cfg(feature = "model")]
        Command::Bench(args) => commands::bench::run(args),
        #[cfg(feature = "gpu")]
        Command::Devices(args) => commands::devices::run(&args),
        #[cfg(feature = "selftest")]
        Command::Selftest(args) => commands::selftest::run(&args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => commands::serve::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough: `mor info … | head -1` is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            note!("error: {}", one_line(&error));
            if is_wrong_use(&error) {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The whole chain of causes on one line. Some errors end with their cause already.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(|cause| cause.to_string()) {
        if !text.ends_with(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text.replace('\n', " ")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Whether the arguments were at fault, though each by itself was well formed. A value that only this model cannot have,
/// such as a depth, is no wrong use.
#[cfg(feature = "model")]
fn is_wrong_use(error: &anyhow::Error) -> bool {
    use mor_config::ConfigError;
    use mor_engine::EngineError;
    use mor_import::ImportError;
    use mor_text::TextError;

    error.chain().any(|cause| {
        cause.is::<commands::Usage>()
            || cause.is::<mor_files::Clash>()
            || matches!(cause.downcast_ref(), Some(TextError::Option(_)))
            || matches!(
                cause.downcast_ref(),
                Some(ImportError::Missing(_) | ImportError::Option(_))
            )
            || matches!(cause.downcast_ref(), Some(EngineError::Option { .. }))
            || matches!(cause.downcast_ref(), Some(ConfigError::UnknownPreset(..)))
            || is_wrong_override(cause)
    })
}

/// Whether `--set` was.
#[cfg(feature = "train")]
fn is_wrong_override(cause: &(dyn std::error::Error + 'static)) -> bool {
    use mor_train::TrainError;
    matches!(cause.downcast_ref(), Some(TrainError::Override(_)))
}

#[cfg(all(feature = "model", not(feature = "train")))]
fn is_wrong_override(_: &(dyn std::error::Error + 'static)) -> bool {
    false
}

#[cfg(all(feature = "serve", not(feature = "model")))]
fn is_wrong_use(error: &anyhow::Error) -> bool {
    error.is::<commands::Usage>()
}

#[cfg(not(any(feature = "serve", feature = "model")))]
fn is_wrong_use(_: &anyhow::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    #[test]
    fn an_error_says_each_cause_once() {
        let disk = || std::io::Error::other("disk full");
        let says = |error: anyhow::Error| super::one_line(&error);
        assert_eq!(says(anyhow::Error::new(disk())), "disk full");
        let wrapped = Err::<(), _>(disk()).context("saving\nfailed");
        assert_eq!(says(wrapped.unwrap_err()), "saving failed: disk full");
        let said = Err::<(), _>(disk()).context("a.json: disk full");
        assert_eq!(says(said.unwrap_err()), "a.json: disk full");
    }
}
