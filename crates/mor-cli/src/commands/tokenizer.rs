//! `mor tokenizer`: learn a vocabulary, and look at what it does to a text.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use mor_files::PathCheck;
use mor_text::data::Columns;
use mor_text::{Message, Role, Tokenizer, TrainOptions, train_tokenizer};
use serde_json::json;

use super::TOKENIZER_FILES;
use crate::output;

/// Learn or import a vocabulary, or use one.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Train(Train),
    Import(Import),
    Encode(Encode),
    Decode(Decode),
}

/// Learn a vocabulary from plain text and conversations.
///
/// Byte-level BPE: the vocabulary starts from the 256 bytes, so that it can write any text, and grows by
/// merging the pair of tokens that occurs most often. Of conversations only the contents are read. Ids 0 to
/// 13 are special tokens, which no text can become.
///
/// Writes tokenizer.json and tokenizer_config.json, with the chat template; the same inputs give the same
/// files.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor tokenizer train --input train.jsonl --vocab-size 8192 --output models/mine"
)]
struct Train {
    /// Files or folders to learn from: plain text, tables, or rows of any shape that `mor data prepare` reads; also .gz
    /// and .zst.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    input: Vec<PathBuf>,
    /// Columns of tables, instead of those that are known.
    #[arg(long, value_name = "ROLE=COLUMN,…")]
    columns: Option<Columns>,
    /// Tokens in all, the 14 special ones and the 256 bytes included. More tokens make shorter sequences and a
    /// larger embedding table.
    #[arg(long, default_value_t = 8192, value_name = "N", value_parser = clap::value_parser!(u32).range(270..=1_000_000))]
    vocab_size: u32,
    /// How often a pair of tokens must occur to become one.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    min_frequency: u64,
    /// Folder for the two files; created if need be.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Stop at the first malformed line instead of skipping and counting it.
    #[arg(long)]
    strict: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Bring the tokenizer of another program into a folder.
///
/// Reads GPT-2's vocab.json and merges.txt (also encoder.json and vocab.bpe, or r50k_base.tiktoken), which gets the
/// conversational card's three tokens and its chat template, and the technical original's folder.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor tokenizer import --from gpt2 --output tokenizers/conversational"
)]
struct Import {
    /// Folder with the other program's files.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Folder for tokenizer.json and tokenizer_config.json; created if need be.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// Print the token ids of a text, separated by spaces.
///
/// Special tokens written in the text are plain text: `<eos>` becomes several tokens, never the one that ends
/// an answer.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  mor tokenizer encode --model models/technical-10m 'list the files'\n  \
    mor tokenizer encode --model models/technical-10m --chat 'What is a shell?' --json"
)]
struct Encode {
    /// Model folder with tokenizer.json and tokenizer_config.json.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Encode the text as a user's message, ready for the model's answer, with the folder's chat template.
    #[arg(long)]
    chat: bool,
    /// The text, or - to read it from standard input.
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    text: String,
    /// Print ids and the text of each as JSON.
    #[arg(long)]
    json: bool,
}

/// Print the text of token ids.
///
/// The output is the exact bytes; only on a terminal control characters are spelled out and a line break is added.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor tokenizer encode --model DIR - < a.txt | mor tokenizer decode --model DIR - | cmp - a.txt"
)]
struct Decode {
    /// Model folder with tokenizer.json and tokenizer_config.json.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Show special tokens by name instead of leaving them out.
    #[arg(long)]
    special: bool,
    /// Token ids, separated by spaces or commas, or - to read them from standard input.
    #[arg(value_name = "IDS", required = true, num_args = 1..)]
    ids: Vec<String>,
}

/// Runs `mor tokenizer`.
///
/// # Errors
/// When a file cannot be read or written, or holds what it should not; the message names it.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Train(args) => train(args),
        Command::Import(args) => import(&args),
        Command::Encode(args) => encode(args),
        Command::Decode(args) => decode(args),
    }
}

fn import(args: &Import) -> Result<()> {
    PathCheck::new()
        .reads_folder("--from", &args.from)
        .writes_files("--output", &args.output, TOKENIZER_FILES)
        .check()?;
    let (tokenizer, report) = super::import::import_tokenizer(&args.from)?;
    super::import::warn(&report);
    tokenizer.save(&args.output)?;
    say!(
        "{}: {} tokens",
        args.output.display(),
        HumanCount(tokenizer.vocab_size() as u64)
    );
    Ok(())
}

fn train(args: Train) -> Result<()> {
    let inputs = args.input.iter();
    inputs
        .fold(PathCheck::new(), |check, path| check.reads("--input", path))
        .writes_files("--output", &args.output, TOKENIZER_FILES)
        .check()?;
    let options = TrainOptions {
        vocab_size: args.vocab_size as usize,
        min_frequency: args.min_frequency,
        strict: args.strict,
        columns: args.columns.clone(),
    };
    let inputs = super::data::files(&args.input, args.columns.as_ref())?.files;
    let started = Instant::now();
    let spinner = ProgressBar::new_spinner().with_message(format!(
        "learning {} tokens from {} file(s)",
        args.vocab_size,
        inputs.len()
    ));
    spinner.enable_steady_tick(Duration::from_millis(200));
    let trained = train_tokenizer(&inputs, &options);
    spinner.finish_and_clear();
    let (tokenizer, report) = trained?;
    tokenizer.save(&args.output)?;

    if args.json {
        let report = json!({
            "report": report,
            "seconds": started.elapsed().as_secs_f64(),
            "output": args.output.display().to_string(),
        });
        say!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    say!(
        "{}: {} tokens learnt from {} texts, {}, in {:.1} s",
        args.output.display(),
        HumanCount(report.vocab_size as u64),
        HumanCount(report.texts),
        HumanBytes(report.bytes),
        started.elapsed().as_secs_f64(),
    );
    if report.vocab_size < options.vocab_size {
        say!(
            "fewer than the {} asked for: no other pair occurs {} times",
            options.vocab_size,
            options.min_frequency
        );
    }
    if let Some(first) = report.first_malformed {
        note!(
            "warning: {} malformed line(s) skipped, the first: {}",
            report.malformed,
            output::name(&first)
        );
    }
    Ok(())
}

fn encode(args: Encode) -> Result<()> {
    let tokenizer = Tokenizer::from_dir(&args.model)?;
    let text = if args.text == "-" {
        read_stdin()?
    } else {
        args.text
    };
    let ids = if args.chat {
        tokenizer.encode_chat(&[Message::new(Role::User, text)], true)?
    } else {
        tokenizer.encode(&text)?
    };
    let mut stdout = crate::output::stdout();
    if args.json {
        let tokens: Vec<_> = ids
            .iter()
            .map(|&id| String::from_utf8_lossy(tokenizer.token_bytes(id)))
            .collect();
        let text = json!({ "ids": ids, "tokens": tokens }).to_string();
        writeln!(stdout, "{text}")?;
    } else {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        writeln!(stdout, "{}", ids.join(" "))?;
    }
    Ok(())
}

fn decode(args: Decode) -> Result<()> {
    let tokenizer = Tokenizer::from_dir(&args.model)?;
    let given = if args.ids == ["-"] {
        read_stdin()?
    } else {
        args.ids.join(" ")
    };
    let ids = parse_ids(&given)?;
    if let Some(id) = ids
        .iter()
        .find(|&&id| id as usize >= tokenizer.vocab_size())
    {
        bail!(
            "token id {id} is outside the vocabulary: {} has ids 0 to {}",
            args.model.display(),
            tokenizer.vocab_size() - 1
        );
    }
    let bytes = tokenizer.decode_bytes(&ids, args.special);
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        let text = String::from_utf8_lossy(&bytes);
        writeln!(stdout, "{}", output::escaped(&text))?;
    } else {
        stdout.write_all(&bytes)?;
    }
    stdout.flush()?;
    Ok(())
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .read_to_string(&mut text)
        .context("standard input is not UTF-8 text")?;
    Ok(text)
}

/// Ids separated by white space or commas.
fn parse_ids(text: &str) -> Result<Vec<u32>> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse()
                .with_context(|| format!("{word:?} is not a token id: expected a whole number"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_separated_by_spaces_or_commas() {
        assert_eq!(parse_ids("1 2,3,\n 4").unwrap(), [1, 2, 3, 4]);
        assert!(parse_ids("").unwrap().is_empty());
        assert!(parse_ids("1 x").unwrap_err().to_string().contains("\"x\""));
        assert!(parse_ids("-1").is_err());
    }
}
