//! `mor export`: a model folder from a run.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use mor_config::Precision;

/// Write the best model of a run as a folder in Hugging Face layout.
///
/// The folder gets config.json, model.safetensors, tokenizer.json, tokenizer_config.json and
/// generation_config.json; other files in it (a README.md, say) stay.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor export --run runs/first --output models/mine --precision f16"
)]
pub(crate) struct Args {
    /// Run folder that `mor train` wrote.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Model folder to write.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Element type of the weights: f32 as trained, f16 at half the size, q8 (int8 in blocks of 32) at a quarter.
    #[arg(long, value_enum, default_value_t = Stored::F32)]
    precision: Stored,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stored {
    F32,
    F16,
    Q8,
}

/// Exports and says what from.
pub(crate) fn run(args: Args) -> Result<()> {
    let precision = match args.precision {
        Stored::F32 => Precision::F32,
        Stored::F16 => Precision::F16,
        Stored::Q8 => Precision::Q8,
    };
    let from = mor_train::export::export(&args.run, &args.output, precision)?;
    println!("{} is now in {}", from.display(), args.output.display());
    Ok(())
}
