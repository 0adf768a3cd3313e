//! `mor export`: a model folder in another precision, from a model folder or a run.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use mor_config::{CONFIG_FILE, Precision};
use mor_files::{PathCheck, StagedFolder, file_names};

use super::{MODEL_FILES, Usage, probe};

/// Write a model folder with other weights: from a model folder, or from the best checkpoint of a run.
///
/// From a model folder, every other file is copied. From a run, the folder gets config.json, tokenizer.json,
/// tokenizer_config.json and generation_config.json. All files appear together, or none; files of other names that are
/// in the output folder already stay.
///
/// probe.json tells other devices what the logits after one prompt should be, as the CPU computes them in f32: the chat
/// page compares a GPU's with them before it trusts it.
///
/// With q8, every matrix is int8 in blocks of 32 columns, each with an f16 scale, embedding and head included; vectors stay
/// f32.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Model folder to write.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Element type of the weights: f32, f16 at half the size, q8 (int8 in blocks of 32) at about a quarter.
    #[arg(long, value_enum, default_value_t = Stored::F32)]
    dtype: Stored,
}

#[cfg(feature = "train")]
const EXAMPLES: &str = "Examples:\n  mor export --run runs/first --output models/mine --dtype f16\n  mor export --model models/mine --output models/mine-q8 --dtype q8";
#[cfg(not(feature = "train"))]
const EXAMPLES: &str =
    "Example:\n  mor export --model models/mine --output models/mine-q8 --dtype q8";

/// Where the weights come from.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Source {
    /// Model folder: config.json and model.safetensors.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Run folder that `mor train` wrote.
    #[cfg(feature = "train")]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
}

/// Element type of stored weights.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Stored {
    F32,
    F16,
    Q8,
}

impl Stored {
    pub(crate) fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::F16 => Precision::F16,
            Self::Q8 => Precision::Q8,
        }
    }
}

/// Exports and says what from.
pub(crate) fn run(args: Args) -> Result<()> {
    let precision = args.dtype.precision();
    #[cfg(feature = "train")]
    if let Some(run) = &args.source.run {
        let folder = mor_train::RunFolder::new(run);
        PathCheck::new()
            .reads("--run", &folder.best())
            .reads("--run", &folder.numbered())
            .writes_files("--output", &args.output, MODEL_FILES)
            .check()?;
        let staged = StagedFolder::new(&args.output)?;
        let from = mor_train::export::export(run, staged.path(), precision)?;
        probe::write(staged.path())?;
        staged.commit(CONFIG_FILE, &mor_text::OLDER_FILES)?;
        say!("{} is now in {}", from.display(), args.output.display());
        return Ok(());
    }
    let Some(model) = &args.source.model else {
        return Err(Usage("give --model".to_owned()).into());
    };
    PathCheck::new()
        .reads_folder("--model", model)
        .writes_files("--output", &args.output, MODEL_FILES)
        .writes_files("--output", &args.output, file_names(model))
        .check()?;
    let staged = StagedFolder::new(&args.output)?;
    mor_import::convert(model, staged.path(), precision)?;
    probe::write(staged.path())?;
    staged.commit(CONFIG_FILE, &mor_text::OLDER_FILES)?;
    say!("{} is now in {}", model.display(), args.output.display());
    Ok(())
}
