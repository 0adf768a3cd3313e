//! From data files to a token file, on every core and in bounded memory.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::metadata::Origin;
use super::writer::{EncodedDocument, TokenFileWriter};
use crate::data::{Columns, Document, Documents, expand};
use crate::{Result, TextError, Tokenizer};

/// Text that is encoded at once: enough to keep many cores busy.
const CHUNK_BYTES: usize = 8 << 20;
/// Documents that are encoded at once, since short ones have a cost beyond their text.
const CHUNK_DOCUMENTS: usize = 1 << 16;

/// How to tokenize.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizeOptions {
    /// Stop after so many documents.
    pub limit: Option<u64>,
    /// Stop at the first row that is malformed, or that the chat template refuses, instead of counting it.
    pub strict: bool,
    /// Columns of tables, instead of those that are known.
    pub columns: Option<Columns>,
}

/// How far tokenizing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenizeProgress {
    /// Bytes of the input files that were read, as they are on disk.
    pub bytes_read: u64,
    /// Documents written.
    pub documents: u64,
    /// Tokens written.
    pub tokens: u64,
}

/// What a token file was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenizeReport {
    /// Documents written.
    pub documents: u64,
    /// Their tokens.
    pub tokens: u64,
    /// UTF-8 bytes of their texts.
    pub bytes: u64,
    /// Rows that are malformed and were skipped.
    pub malformed: u64,
    /// Rows without an answer, from which a model learns nothing.
    pub unanswered: u64,
    /// Rows that the chat template refuses.
    pub refused: u64,
    /// The first row that was malformed or refused, with the reason.
    pub first_problem: Option<String>,
}

/// Writes the token file `output` with the documents of `inputs`, in their order: each conversation as the
/// chat template lays it out, and each plain-text file as one running text that begins with the token which
/// opens texts. Of a folder, all files that can be read.
///
/// # Errors
/// [`TextError::Io`] for files that cannot be read or written, [`TextError::Malformed`] if `strict`,
/// [`TextError::Unusable`] for files that are evidently no text, [`TextError::Option`] for a limit of 0,
/// [`TextError::Template`] if the tokenizer has no chat template and the inputs have conversations, and if
/// nothing is left, [`TextError::Nothing`] with what became of the rows, or [`TextError::Empty`].
pub fn tokenize(
    inputs: &[PathBuf],
    tokenizer: &Tokenizer,
    output: &Path,
    options: &TokenizeOptions,
    mut on_progress: impl FnMut(TokenizeProgress),
) -> Result<TokenizeReport> {
    if options.limit == Some(0) {
        return Err(TextError::Option(
            "a limit of 0 rows leaves none to read".to_owned(),
        ));
    }
    let inputs = &expand(inputs, options.columns.as_ref())?.files;
    let mut writer = DocumentWriter::create(output, inputs, tokenizer, options)?;
    let mut documents = Documents::new(inputs).with_columns(options.columns.clone());
    let mut taken = 0;
    let mut written = 0;
    while options.limit.is_none_or(|limit| taken < limit) {
        let Some(document) = documents.next() else {
            break;
        };
        match document {
            Ok(document) => taken += u64::from(writer.push(document)?),
            Err(error) => writer.skip(error)?,
        }
        let report = writer.report();
        if report.documents > written {
            written = report.documents;
            on_progress(TokenizeProgress {
                bytes_read: documents.bytes(),
                documents: report.documents,
                tokens: report.tokens,
            });
        }
    }
    writer.finish()
}

/// Encodes documents, on every core, and writes them to a token file in the order in which they come.
#[derive(Debug)]
pub struct DocumentWriter<'a> {
    tokenizer: &'a Tokenizer,
    writer: TokenFileWriter,
    strict: bool,
    waiting: Vec<Document>,
    waiting_bytes: usize,
    report: TokenizeReport,
}

/// A document's ids, learned bits and, of text, whether it is.
type Encoded = Result<(Vec<u32>, Vec<bool>)>;

impl<'a> DocumentWriter<'a> {
    /// Starts what will be the token file `output`, which names `inputs` as its origin.
    ///
    /// # Errors
    /// [`TextError::Io`] if an input does not exist or the folder of `output` cannot be written.
    pub fn create(
        output: &Path,
        inputs: &[PathBuf],
        tokenizer: &'a Tokenizer,
        options: &TokenizeOptions,
    ) -> Result<Self> {
        // Before anything is read, so that a file which changes meanwhile counts as changed.
        let origin = inputs.par_iter().map(|path| Origin::of(path));
        let origin = origin.collect::<Result<_>>()?;
        let mut writer = TokenFileWriter::create(output, tokenizer)?;
        writer.metadata_mut().origin = origin;
        writer.metadata_mut().limit = options.limit;
        Ok(Self {
            tokenizer,
            writer,
            strict: options.strict,
            waiting: Vec::new(),
            waiting_bytes: 0,
            report: TokenizeReport::default(),
        })
    }

    /// Takes a document, unless a model could learn nothing from it: a conversation without an answer, or a
    /// text of nothing. Says whether it was taken.
    ///
    /// # Errors
    /// As [`tokenize`].
    pub fn push(&mut self, document: Document) -> Result<bool> {
        match &document {
            Document::Conversation(row) if !row.has_answer() => {
                self.report.unanswered += 1;
                return Ok(false);
            }
            Document::Conversation(_) if !self.tokenizer.has_chat_template() => {
                return self.tokenizer.encode_chat(&[], false).map(|_| false);
            }
            Document::Text(piece) if piece.text.is_empty() => return Ok(false),
            _ => {}
        }
        self.waiting_bytes += document.content_bytes();
        self.waiting.push(document);
        if self.waiting_bytes >= CHUNK_BYTES || self.waiting.len() >= CHUNK_DOCUMENTS {
            self.flush()?;
        }
        Ok(true)
    }

    /// Counts a row that could not be read.
    ///
    /// # Errors
    /// `error` itself, unless it is about one row and rows may be skipped.
    pub fn skip(&mut self, error: TextError) -> Result<()> {
        if self.strict || !error.is_malformed() {
            return Err(error);
        }
        self.report.malformed += 1;
        self.note(&error);
        Ok(())
    }

    /// The counts so far; documents that wait for others to be encoded with are not among them.
    pub fn report(&self) -> &TokenizeReport {
        &self.report
    }

    /// Encodes what is left and completes the file.
    ///
    /// # Errors
    /// As [`tokenize`].
    pub fn finish(mut self) -> Result<TokenizeReport> {
        self.flush()?;
        if self.report.documents == 0 {
            let inputs = &self.writer.metadata_mut().origin;
            let names = inputs.iter().map(|it| it.path.display().to_string());
            let input = names.collect::<Vec<_>>().join(", ");
            return Err(self.report.nothing(input));
        }
        let metadata = self.writer.metadata_mut();
        metadata.malformed = self.report.malformed;
        metadata.unanswered = self.report.unanswered;
        metadata.refused = self.report.refused;
        self.writer.finish()?;
        Ok(self.report)
    }

    /// Encodes and writes what waits.
    fn flush(&mut self) -> Result<()> {
        self.waiting_bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        let tokenizer = self.tokenizer;
        let encoded: Vec<Encoded> = waiting
            .par_iter()
            .map(|document| document.encode(tokenizer))
            .collect();
        for (document, encoded) in waiting.iter().zip(encoded) {
            let (ids, learned) = match encoded {
                Ok(encoded) => encoded,
                Err(error @ TextError::Template { .. }) if !self.strict => {
                    self.report.refused += 1;
                    self.note(&error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.writer.push(&EncodedDocument {
                ids: &ids,
                learned: &learned,
                bytes: document.content_bytes(),
                source: document.source(),
                is_text: matches!(document, Document::Text(_)),
                is_weighted: document.is_weighted(),
            })?;
        }
        self.report.documents = self.writer.documents();
        self.report.tokens = self.writer.tokens();
        self.report.bytes = self.writer.bytes();
        Ok(())
    }

    /// Remembers the first problem.
    fn note(&mut self, error: &TextError) {
        let first = &mut self.report.first_problem;
        first.get_or_insert_with(|| error.to_string());
    }
}

impl TokenizeReport {
    /// The error that nothing was left to write.
    fn nothing(&self, input: String) -> TextError {
        let counts = [
            (self.malformed, "malformed"),
            (self.unanswered, "without an answer"),
            (self.refused, "refused by the chat template"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if counts.is_empty() {
            return TextError::Empty { input };
        }
        let first = self
            .first_problem
            .iter()
            .map(|first| format!(", the first: {first}"));
        let reason = format!(
            "of its rows, {}{}",
            counts.join(", "),
            first.collect::<String>()
        );
        TextError::Nothing { input, reason }
    }
}

impl Document {
    fn content_bytes(&self) -> usize {
        match self {
            Self::Conversation(row) => row.content_bytes(),
            Self::Text(piece) => piece.text.len(),
        }
    }

    fn source(&self) -> &str {
        match self {
            Self::Conversation(row) => row.source.as_deref().unwrap_or_default(),
            Self::Text(piece) => &piece.source,
        }
    }

    /// Whether it has messages of weight 0.
    fn is_weighted(&self) -> bool {
        match self {
            Self::Conversation(row) => row.messages.iter().any(|message| !message.learned),
            Self::Text(_) => false,
        }
    }

    fn encode(&self, tokenizer: &Tokenizer) -> Encoded {
        match self {
            Self::Conversation(row) => tokenizer.encode_chat_learned(&row.messages),
            Self::Text(piece) => {
                let bos = tokenizer.bos_id().filter(|_| piece.opens);
                let mut ids: Vec<u32> = bos.into_iter().collect();
                ids.extend(tokenizer.encode(&piece.text)?);
                let learned = vec![true; ids.len()];
                Ok((ids, learned))
            }
        }
    }
}
