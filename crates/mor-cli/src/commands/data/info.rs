//! `mor data info`: what a data or token file holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use indicatif::{HumanBytes, HumanCount};
use mor_text::data::{Columns, Document, Documents, Format};
use mor_text::tokens::TokenFile;
use serde_json::{Map, Value, json};

use super::SHOWN_ERRORS;
use super::sink::tokens_by_source;
use crate::commands::Usage;
use crate::output;

/// Say what a data file or a token file holds.
///
/// Of a data file: its format, as its content tells it, and its rows by schema and source. Of a token file:
/// documents, tokens and sources; all of it is checked against its checksum.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  mor data info train.tokens raw.json.gz")]
pub(super) struct Args {
    /// Files or folders to look at.
    #[arg(num_args = 1.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same, as other commands name them.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    input: Vec<PathBuf>,
    /// Columns of tables, instead of those that are known.
    #[arg(long, value_name = "ROLE=COLUMN,…")]
    columns: Option<Columns>,
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
    let inputs = [&args.files[..], &args.input].concat();
    if inputs.is_empty() {
        bail!(Usage("no file was given: `mor data info FILE…`".to_owned()));
    }
    for path in &super::files(&inputs, args.columns.as_ref())?.files {
        // What comes through a pipe can be read only once.
        let info = if path.is_file() && TokenFile::is_token_file(path)? {
            of_tokens(path)?
        } else {
            of_data(path, args.columns.as_ref())?
        };
        if !args.json {
            output::print(&text(&info))?;
        }
        all.push(info);
    }
    if args.json {
        output::print(&serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

/// Fields that are not used, counted by name.
const MAX_FIELDS: usize = 48;

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

fn of_data(path: &Path, columns: Option<&Columns>) -> Result<Value> {
    let words = match path.is_file() {
        true => Format::describe(path, columns)?,
        false => "a stream".to_owned(),
    };
    let files = [path.to_owned()];
    let progress = super::progress(&files);
    let mut documents = Documents::new(&files).with_columns(columns.cloned());
    let (mut rows, mut bytes, mut unanswered, mut malformed) = (0u64, 0u64, 0u64, 0u64);
    let mut schemas = BTreeMap::<&str, u64>::new();
    let mut sources = BTreeMap::<String, (u64, u64)>::new();
    let mut unused = BTreeMap::<String, u64>::new();
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
                for field in documents.unused() {
                    *unused.entry(field.clone()).or_default() += 1;
                    if unused.len() > MAX_FIELDS {
                        unused.pop_last();
                    }
                }
                if let Some(schema) = documents.schema() {
                    *schemas.entry(schema.name()).or_default() += 1;
                }
                let count = sources.entry(row.source.unwrap_or_default()).or_default();
                *count = (count.0 + is_row, count.1 + size);
            }
            Err(error) if error.is_malformed() => {
                malformed += 1;
                if malformed <= SHOWN_ERRORS {
                    progress.suspend(|| note!("warning: {}", output::name(&error.to_string())));
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
        "unused": unused,
        "sources": sources,
    }))
}

/// What a person reads.
fn text(info: &Value) -> String {
    let text = |key: &str| output::name(info[key].as_str().unwrap_or_default());
    let mut lines = vec![format!("{}: {}", text("path"), text("format"))];
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
            lines.push(format!("  {name:<20}{:>14}", HumanCount(count).to_string()));
        }
    }
    let bytes = HumanBytes(info["bytes"].as_u64().unwrap_or_default()).to_string();
    lines.push(format!("  {:<20}{bytes:>14}", "text"));
    for key in ["fingerprint", "tokenizer"] {
        if info[key].is_string() {
            lines.push(format!("  {key:<20}{}", text(key)));
        }
    }
    for (name, count) in info["schemas"].as_object().into_iter().flatten() {
        let count = HumanCount(count.as_u64().unwrap_or_default()).to_string();
        lines.push(format!("  {:<20}{count:>14}", format!("{name} rows")));
    }
    for (field, count) in info["unused"].as_object().into_iter().flatten() {
        let field = format!("not used: {}", output::name(field));
        let count = HumanCount(count.as_u64().unwrap_or_default()).to_string();
        lines.push(format!("  {field:<20}{count:>14}"));
    }
    for (name, counts) in info["sources"].as_object().into_iter().flatten() {
        let rows = counts["documents"].as_u64().or(counts["rows"].as_u64());
        let bytes = HumanBytes(counts["bytes"].as_u64().unwrap_or_default());
        let rows = HumanCount(rows.unwrap_or_default()).to_string();
        let tokens = counts["tokens"].as_u64();
        let tokens = tokens.map_or(String::new(), |it| format!(", {} tokens", HumanCount(it)));
        let name = output::name(name);
        lines.push(format!("  source {name:<13}{rows:>14}, {bytes}{tokens}"));
    }
    lines.join("\n")
}
