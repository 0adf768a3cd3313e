//! `mor data info`: what a data or token file holds.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use indicatif::{HumanBytes, HumanCount};
use mor_text::data::{ChatReader, Document, Documents, Format};
use mor_text::tokens::TokenFile;
use serde_json::{Map, Value, json};

use super::SHOWN_ERRORS;
use super::sink::tokens_by_source;

/// Say what a data file or a token file holds.
///
/// Of a data file: its format, as its content tells it, and its rows by schema and source. Of a token file:
/// documents, tokens and sources; all of it is checked against its checksum.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  mor data info train.tokens raw.json.gz")]
pub(super) struct Args {
    /// Files to look at.
    #[arg(required = true, num_args = 1.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON: a list with an object for each file.
    #[arg(long)]
    json: bool,
}

/// Runs `mor data info`.
///
/// # Errors
/// When a file cannot be read, or a token file is damaged.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut all = Vec::new();
    for path in &args.files {
        let info = if TokenFile::is_token_file(path)? {
            of_tokens(path)?
        } else {
            of_data(path)?
        };
        if !args.json {
            print(&info)?;
        }
        all.push(info);
    }
    if args.json {
        writeln!(std::io::stdout(), "{:#}", Value::from(all))?;
    }
    Ok(())
}

fn of_tokens(path: &Path) -> Result<Value> {
    let file = TokenFile::open(path)?;
    file.verify()?;
    Ok(json!({
        "path": path.display().to_string(),
        "format": "token file, checksum verified",
        "documents": file.len(),
        "tokens": file.total_tokens(),
        "bytes": file.total_bytes(),
        "largest_id": file.largest_id(),
        "malformed": file.malformed(),
        "unanswered": file.unanswered(),
        "fingerprint": file.fingerprint(),
        "tokenizer": file.tokenizer(),
        "origin": file.origin(),
        "sources": tokens_by_source(&file),
    }))
}

fn of_data(path: &Path) -> Result<Value> {
    let (format, reader) = Format::open(path)?;
    let compression = reader.compression().name();
    let mut words = match format {
        Format::Chat => ChatReader::new(reader, path).layout().describe().to_owned(),
        Format::Text => "plain text".to_owned(),
    };
    if let Some(name) = compression {
        words += &format!(", {name}");
    }

    let files = [path.to_owned()];
    let progress = super::progress(&files);
    let mut documents = Documents::new(&files);
    let (mut rows, mut bytes, mut unanswered, mut malformed) = (0u64, 0u64, 0u64, 0u64);
    let mut schemas = BTreeMap::<&str, u64>::new();
    let mut sources = BTreeMap::<String, (u64, u64)>::new();
    while let Some(document) = documents.next() {
        match document {
            Ok(document) => {
                // Pieces of a text are no rows, only its size counts.
                let is_row = u64::from(matches!(document, Document::Conversation(_)));
                let row = document.into_row();
                let size = row.content_bytes() as u64;
                rows += is_row;
                bytes += size;
                unanswered += u64::from(is_row == 1 && !row.has_answer());
                if let Some(schema) = documents.schema() {
                    *schemas.entry(schema.name()).or_default() += 1;
                }
                let count = sources.entry(row.source.unwrap_or_default()).or_default();
                *count = (count.0 + is_row, count.1 + size);
            }
            Err(error) if error.is_malformed() => {
                malformed += 1;
                if malformed <= SHOWN_ERRORS {
                    progress.suspend(|| note!("warning: {error}"));
                }
            }
            Err(error) => return Err(error.into()),
        }
        progress.set_position(documents.bytes());
    }
    progress.finish_and_clear();
    let sources: Map<String, Value> = sources
        .into_iter()
        .map(|(name, (rows, bytes))| (name, json!({ "rows": rows, "bytes": bytes })))
        .collect();
    Ok(json!({
        "path": path.display().to_string(),
        "format": words,
        "rows": rows,
        "bytes": bytes,
        "malformed": malformed,
        "unanswered": unanswered,
        "schemas": schemas,
        "sources": sources,
    }))
}

/// What a person reads.
fn print(info: &Value) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let text = |key: &str| info[key].as_str().unwrap_or_default();
    writeln!(stdout, "{}: {}", text("path"), text("format"))?;
    for key in [
        "documents",
        "rows",
        "tokens",
        "malformed",
        "unanswered",
        "largest_id",
    ] {
        if let Some(count) = info[key].as_u64() {
            let name = key.replace('_', " ");
            writeln!(stdout, "  {name:<20}{:>14}", HumanCount(count).to_string())?;
        }
    }
    let bytes = info["bytes"].as_u64().unwrap_or_default();
    writeln!(
        stdout,
        "  {:<20}{:>14}",
        "text",
        HumanBytes(bytes).to_string()
    )?;
    for key in ["fingerprint", "tokenizer"] {
        if let Some(hash) = info[key].as_str() {
            writeln!(stdout, "  {key:<20}{hash}")?;
        }
    }
    for (name, count) in info["schemas"].as_object().into_iter().flatten() {
        writeln!(stdout, "  {:<20}{count:>14}", format!("{name} rows"))?;
    }
    for (name, counts) in info["sources"].as_object().into_iter().flatten() {
        let rows = counts["documents"].as_u64().or(counts["rows"].as_u64());
        let bytes = HumanBytes(counts["bytes"].as_u64().unwrap_or_default());
        let rows = HumanCount(rows.unwrap_or_default()).to_string();
        let tokens = counts["tokens"].as_u64();
        let tokens = tokens.map_or(String::new(), |it| format!(", {} tokens", HumanCount(it)));
        writeln!(stdout, "  source {name:<13}{rows:>14}, {bytes}{tokens}")?;
    }
    Ok(())
}
