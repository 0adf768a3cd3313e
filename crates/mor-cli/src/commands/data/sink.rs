//! Where prepared rows go: chat JSON lines, or a token file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use mor_files::{OutputStream, is_standard_output};
use mor_text::Tokenizer;
use mor_text::data::Document;
use mor_text::tokens::{DocumentWriter, TokenFile, TokenizeOptions};
use serde_json::{Map, json};

use crate::output::name;

/// A file that is being written.
pub(super) struct Sink<'a> {
    path: PathBuf,
    kind: Kind<'a>,
    pub(super) rows: u64,
}

enum Kind<'a> {
    Rows(OutputStream),
    Tokens(Box<DocumentWriter<'a>>),
}

impl<'a> Sink<'a> {
    /// A token file if there is a tokenizer, else JSON lines.
    pub(super) fn create(
        path: &Path,
        inputs: &[PathBuf],
        tokenizer: Option<&'a Tokenizer>,
        strict: bool,
    ) -> Result<Self> {
        let options = TokenizeOptions {
            strict,
            ..TokenizeOptions::default()
        };
        let kind = match tokenizer {
            Some(tokenizer) => {
                let writer = DocumentWriter::create(path, inputs, tokenizer, &options)?;
                Kind::Tokens(Box::new(writer))
            }
            None => Kind::Rows(OutputStream::create(path)?),
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
            rows: 0,
        })
    }

    pub(super) fn push(&mut self, document: Document) -> Result<()> {
        self.rows += 1;
        match &mut self.kind {
            Kind::Tokens(writer) => {
                writer.push(document)?;
            }
            Kind::Rows(file) => {
                let mut row = serde_json::to_vec(&document.into_row())?;
                row.push(b'\n');
                let written = file.write_all(&row);
                let named = || self.path.display().to_string();
                match is_standard_output(&self.path) {
                    true => written.with_context(named)?,
                    // A reader that leaves misses rows: only that of standard output is taken to have meant it.
                    false => written.map_err(|error| anyhow!("{}: {error}", named()))?,
                }
            }
        }
        Ok(())
    }

    /// Gives the file its name, and tells of it as JSON; of a token file also what is longer than a model's `context`.
    pub(super) fn finish(self, context: Option<usize>) -> Result<serde_json::Value> {
        let path = self.path.display().to_string();
        let Kind::Tokens(writer) = self.kind else {
            if let Kind::Rows(file) = self.kind {
                file.commit()?;
            }
            return Ok(json!({ "path": path, "rows": self.rows }));
        };
        let report = writer.finish()?;
        if let Some(problem) = &report.first_problem {
            note!(
                "warning: the chat template refused {} row(s): {}",
                report.refused,
                name(problem)
            );
        }
        let file = TokenFile::open(&self.path)?;
        let tokens = tokens_by_source(&file);
        let beyond = context.map(|context| {
            let (rows, tokens) = file.beyond(context);
            json!({ "context": context, "rows": rows, "tokens": tokens })
        });
        Ok(json!({
            "path": path,
            "rows": report.documents,
            "tokens": report.tokens,
            "bytes": report.bytes,
            "refused": report.refused,
            "beyond_context": beyond,
            "sources": tokens,
        }))
    }
}

/// Documents, tokens and bytes of each source.
pub(super) fn tokens_by_source(file: &TokenFile) -> Map<String, serde_json::Value> {
    let mut counts = vec![(0u64, 0u64, 0u64); file.sources().len()];
    for document in 0..file.len() {
        if let Some(count) = counts.get_mut(usize::from(file.source(document))) {
            count.0 += 1;
            count.1 += file.tokens_of(document) as u64;
            count.2 += u64::from(file.bytes(document));
        }
    }
    let counts = counts.into_iter().map(|(documents, tokens, bytes)| {
        json!({ "documents": documents, "tokens": tokens, "bytes": bytes })
    });
    file.sources().iter().cloned().zip(counts).collect()
}
