//! `mor import`: a model folder from the checkpoint of another program.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use mor_config::{CONFIG_FILE, ModelConfig, Positions};
use mor_files::{PathCheck, StagedFolder};
use mor_import::{Checkpoint, ConversationalOptions, TechnicalOptions};
use mor_text::{ImportReport, Tokenizer};
use serde_json::json;

use super::export::Stored;
use super::{MODEL_FILES, Usage, probe};

/// Bring a PyTorch checkpoint of one of the two original models into a model folder.
///
/// Sizes follow from the checkpoint's shapes: vocabulary, width, layers, steps, context, whether the head is tied. What
/// shapes do not tell is an option. Tensors that are missing or unknown are listed by name. The folder appears whole or
/// not at all; the model then behaves as the original did, quirks included.
///
/// Both safetensors files and what torch.save writes are read (.pt, .pth, .bin, .ckpt, since PyTorch 1.6). A .pt file is a
/// program; this reader runs none of it, and refuses files that hold more than tensors.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  mor import technical --weights model.pt --heads 6 --tokenizer original/ --output models/technical\n  mor import conversational --weights model.safetensors --config config.json --tokenizer gpt2/ --output models/chat --dtype f16"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    family: Family,
}

#[derive(clap::Subcommand, Debug)]
enum Family {
    Technical(Technical),
    Conversational(Conversational),
}

/// The technical model: a router in every layer, 0 to max_steps steps each.
///
/// Learned, sinusoidal and rotary positions are told apart by their tables. Tables that follow from a formula are compared
/// with it, and refused where they do not. Rotary positions are the formula as it was meant: the original's own code for
/// them does not run.
#[derive(clap::Args, Debug)]
struct Technical {
    #[command(flatten)]
    common: Common,
    /// Attention heads per layer; 6 in the original.
    #[arg(long, value_name = "N")]
    heads: usize,
    /// Id of the padding token.
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pad_id: u32,
    /// Kind of positions, for a checkpoint that has no table of them.
    #[arg(long, value_enum)]
    positions: Option<PositionsName>,
    /// Longest context in tokens; follows from a learned table. Else the length of the sinusoidal table, or the original's
    /// 128.
    #[arg(long, value_name = "N")]
    context: Option<usize>,
}

/// A kind of positions.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PositionsName {
    Learned,
    Sinusoidal,
    Rotary,
}

impl From<PositionsName> for Positions {
    fn from(name: PositionsName) -> Self {
        match name {
            PositionsName::Learned => Self::Learned,
            PositionsName::Sinusoidal => Self::Sinusoidal,
            PositionsName::Rotary => Self::Rotary,
        }
    }
}

/// The conversational model: one router for the sequence, which decides how often a shared block runs.
#[derive(clap::Args, Debug)]
struct Conversational {
    #[command(flatten)]
    common: Common,
    /// The original's config.json, for whatever no option gives.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Attention heads per layer; follows from rotary tables if the checkpoint has them.
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Id of the padding token.
    #[arg(long, value_name = "ID")]
    pad_id: Option<u32>,
    /// Id of the token that ends an answer.
    #[arg(long, value_name = "ID")]
    eos_id: Option<u32>,
    /// Longest context in tokens; 512 in the original.
    #[arg(long, value_name = "N")]
    context: Option<usize>,
}

#[derive(clap::Args, Debug)]
struct Common {
    /// Checkpoint: a .safetensors or .pt file.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Tokenizer folder: a Hugging Face tokenizer.json; the technical original's vocab.json, merges.txt and
    /// tokenizer_config.json; or GPT-2's vocab.json and merges.txt, encoder.json and vocab.bpe, or r50k_base.tiktoken.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Model folder to write. Other files in it (a README.md, say) stay.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Element type of the weights: f32, f16 at half the size, q8 (int8 in blocks of 32) at about a quarter.
    #[arg(long, value_enum, default_value_t = Stored::F32)]
    dtype: Stored,
}

impl Common {
    /// Refuses to write over what is imported.
    fn check(&self, check: PathCheck) -> Result<()> {
        let mut check = check.reads("--weights", &self.weights).writes_files(
            "--output",
            &self.output,
            MODEL_FILES,
        );
        if let Some(tokenizer) = &self.tokenizer {
            check = check.reads_folder("--tokenizer", tokenizer);
        }
        Ok(check.check()?)
    }
}

/// Imports, and says what was found.
pub(crate) fn run(args: Args) -> Result<()> {
    let (common, checkpoint, config, eos) = match args.family {
        Family::Technical(args) => {
            args.common.check(PathCheck::new())?;
            let checkpoint = Checkpoint::open(&args.common.weights)?;
            let options = TechnicalOptions {
                heads: args.heads,
                pad_id: args.pad_id,
                positions: args.positions.map(Positions::from),
                context: args.context,
            };
            let config = mor_import::technical(&checkpoint, &options)?;
            (args.common, checkpoint, config, None)
        }
        Family::Conversational(args) => {
            let check = match &args.config {
                Some(config) => PathCheck::new().reads("--config", config),
                None => PathCheck::new(),
            };
            args.common.check(check)?;
            let checkpoint = Checkpoint::open(&args.common.weights)?;
            let mut options = ConversationalOptions {
                heads: args.heads,
                pad_id: args.pad_id,
                eos_id: args.eos_id,
                context: args.context,
                ..ConversationalOptions::default()
            };
            if let Some(path) = &args.config {
                options.fill_from(path)?;
            }
            let config = mor_import::conversational(&checkpoint, &options)?;
            (args.common, checkpoint, config, options.eos_id)
        }
    };
    if let Some(eos) = eos
        && eos as usize >= config.vocab_size
    {
        return Err(Usage(format!(
            "the end token {eos} is outside the vocabulary of {}",
            config.vocab_size
        ))
        .into());
    }
    let tokenizer = common.tokenizer.as_deref().map(import_tokenizer);
    let tokenizer = tokenizer.transpose()?;
    if let Some((tokenizer, _)) = &tokenizer
        && !tokenizer.fits(config.vocab_size)
    {
        bail!(
            "the tokenizer has {} ids, but the model's vocabulary only {}; they do not belong together",
            tokenizer.vocab_size(),
            config.vocab_size
        );
    }

    let staged = StagedFolder::new(&common.output)?;
    let precision = common.dtype.precision();
    mor_import::save_model(&checkpoint, &config, staged.path(), precision)?;
    let tokenizer = tokenizer.as_ref();
    if let Some((tokenizer, _)) = tokenizer {
        tokenizer.save(staged.path())?;
    }
    let generation = generation_config(&config, tokenizer.map(|(tokenizer, _)| tokenizer), eos);
    let path = staged.path().join("generation_config.json");
    mor_files::write(&path, generation.as_bytes())?;
    probe::write(staged.path())?;
    // Files of a tokenizer that was there before must not count for this one.
    let gone = tokenizer.map_or(&[][..], |_| &mor_text::OLDER_FILES);
    staged.commit(CONFIG_FILE, gone)?;

    if let Some((_, report)) = tokenizer {
        warn(report);
    }
    say!(
        "{}: {} with {} parameters, {} layers of width {}, {} positions, {} tokens of context{}",
        common.output.display(),
        config.architecture.as_str(),
        config.parameter_count().total,
        config.num_hidden_layers,
        config.hidden_size,
        match config.positions {
            Positions::Learned => "learned",
            Positions::Sinusoidal => "sinusoidal",
            Positions::Rotary => "rotary",
        },
        config.max_position_embeddings,
        if config.tie_word_embeddings {
            ", tied head"
        } else {
            ""
        },
    );
    Ok(())
}

pub(super) fn import_tokenizer(folder: &Path) -> Result<(Tokenizer, ImportReport)> {
    mor_text::import_tokenizer(folder).context("importing the tokenizer")
}

/// Says which merges were left out.
pub(super) fn warn(report: &ImportReport) {
    let lines = |lines: &[usize]| {
        let lines: Vec<_> = lines.iter().map(usize::to_string).collect();
        lines.join(", ")
    };
    if !report.malformed_merges.is_empty() {
        note!(
            "warning: {} line(s) of merges.txt are not two symbols and were left out: {}",
            report.malformed_merges.len(),
            lines(&report.malformed_merges)
        );
    }
    if !report.unknown_merges.is_empty() {
        note!(
            "warning: {} line(s) of merges.txt make a symbol that is not in the vocabulary and were left out: {}",
            report.unknown_merges.len(),
            lines(&report.unknown_merges)
        );
    }
}

/// Greedy defaults, with the ids that are known.
fn generation_config(
    config: &ModelConfig,
    tokenizer: Option<&Tokenizer>,
    eos: Option<u32>,
) -> String {
    let mut ends: Vec<u32> = eos.into_iter().collect();
    ends.extend(tokenizer.and_then(Tokenizer::eos_id));
    ends.extend(tokenizer.and_then(|tokenizer| tokenizer.token_id("<|endoftext|>")));
    ends.sort_unstable();
    ends.dedup();
    let value = json!({
        "bos_token_id": tokenizer.and_then(Tokenizer::bos_id),
        "eos_token_id": ends,
        "pad_token_id": config.pad_token_id,
        "do_sample": false,
        "max_length": config.max_position_embeddings,
    });
    format!("{value:#}\n")
}
