//! `mor bench`: how fast models run and train on this machine.

mod decode;
#[cfg(feature = "gpu")]
mod decode_gpu;
#[cfg(feature = "train")]
mod train;

use anyhow::Result;

/// Measure how fast a model runs or trains on this machine.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Decode(decode::Args),
    #[cfg(feature = "train")]
    Train(train::Args),
}

/// Measures and prints.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Decode(args) => decode::run(&args),
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(&args),
    }
}
