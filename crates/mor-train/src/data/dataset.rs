//! Training sequences out of a token file: a conversation each, or windows of running text.

use std::path::{Path, PathBuf};

use mor_text::Tokenizer;
use mor_text::tokens::{TokenFile, TokenizeOptions, tokenize};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::fit::Fit;
use crate::recipe::Learn;
use crate::{Result, TrainError};

/// What happens to a conversation that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlong {
    /// Its end is dropped.
    #[default]
    Truncate,
    /// It is cut into parts, the next starting where the last ended, so that every token is
    /// learned, or scored: always when measuring.
    Split,
}

/// One sequence: a conversation, a part of a long one, or a window of running text. A sequence of `n` ids gives
/// `n - 1` inputs, each with the next id as its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The document it comes from.
    pub document: usize,
    start: usize,
    len: usize,
}

impl Row {
    /// Inputs, and targets.
    pub fn inputs(self) -> usize {
        self.len - 1
    }

    /// Whether it begins its document.
    pub fn is_first(self) -> bool {
        self.start == 0
    }
}

/// What is read of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Most inputs of a sequence.
    pub context: usize,
    /// What happens to longer conversations.
    pub overlong: Overlong,
    /// The tokens that count. A sequence without any is left out.
    pub learn: Learn,
    /// Whether messages of weight 0 do not count, whatever `learn` says.
    pub weights: bool,
    /// Stop after so many documents.
    pub limit: Option<usize>,
}

/// The sequences of a data file. Token ids stay in a memory-mapped file and sequences are cut when they are asked
/// for, so memory does not grow with the data.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    file: TokenFile,
    reading: Reading,
    documents: usize,
    fit: Fit,
    /// Keeps a token file that was made for this process alone.
    _temporary: Option<tempfile::TempPath>,
}

impl Dataset {
    /// Opens a token file and checks all of it, or tokenizes any other data file, or the files of a folder, first: into
    /// `cache`, where a later run finds it again, or into a temporary file.
    ///
    /// # Errors
    /// [`TrainError::Text`] for an unreadable or damaged file; [`TrainError::Data`] if it has nothing to
    /// learn from or was tokenized by another tokenizer.
    pub fn open(
        path: &Path,
        tokenizer: &Tokenizer,
        cache: Option<&Path>,
        reading: Reading,
    ) -> Result<Self> {
        let fail = |problem: String| TrainError::Data {
            path: path.to_owned(),
            problem,
        };
        let mut temporary = None;
        let file = if path.is_file() && TokenFile::is_token_file(path)? {
            let file = TokenFile::open(path)?;
            if file.tokenizer() != tokenizer.fingerprint() {
                return Err(fail(
                    "was tokenized by another tokenizer; prepare it again with this model's"
                        .to_owned(),
                ));
            }
            file.verify()?;
            file
        } else {
            let inputs = mor_text::data::expand(&[path.to_owned()], None)?.files;
            let target = match cache {
                Some(cache) => cache.to_owned(),
                None => {
                    let made = tempfile::Builder::new().suffix(".tokens").tempfile();
                    let made = made.map_err(TrainError::io(&std::env::temp_dir()))?;
                    temporary.insert(made.into_temp_path()).to_path_buf()
                }
            };
            tokenized(&inputs, tokenizer, &target, cache.is_some(), reading.limit)?
        };
        let documents = reading.limit.unwrap_or(usize::MAX).min(file.len());
        let mut data = Self {
            path: path.to_owned(),
            documents,
            file,
            reading,
            fit: Fit::default(),
            _temporary: temporary,
        };
        data.fit = data.measure_fit();
        if data.fit.left == 0 {
            return Err(fail(data.fit.nothing_left(data.reading)));
        }
        Ok(data)
    }

    /// What the context and the choice of tokens leave of the documents.
    fn measure_fit(&self) -> Fit {
        let documents = 0..self.documents;
        let fit = documents.into_par_iter().map(|document| {
            let tokens = self.file.tokens_of(document);
            let is_text = self.file.is_text(document);
            let learns = || !self.is_marked(document) || self.file.learns_any(document, 1..tokens);
            let used: usize = self.rows_of(document).map(|row| row.inputs()).sum();
            Fit::of_document(self.reading, tokens, is_text, used, learns)
        });
        let fit = fit.reduce(Fit::default, Fit::and);
        self.release();
        fit
    }

    /// What is left of the conversations, and what is not.
    pub fn fit(&self) -> Fit {
        self.fit
    }

    /// What a person who trains with it should know, a line each: conversations that are cut or left out.
    pub fn notes(&self) -> Vec<String> {
        self.fit.notes(self.reading)
    }

    /// The sequences of a document, first to last; each begins with the last target of the one before, so every id
    /// but the first is a target exactly once. Those in which no target counts are left out.
    pub fn rows_of(&self, document: usize) -> impl Iterator<Item = Row> + use<'_> {
        let count = self.file.tokens_of(document);
        let Reading {
            context, overlong, ..
        } = self.reading;
        let cut = overlong == Overlong::Truncate && !self.file.is_text(document);
        let count = if cut { count.min(context + 1) } else { count };
        let windows = count.saturating_sub(1).div_ceil(context);
        let rows = (0..windows).map(move |window| {
            let start = window * context;
            Row {
                document,
                start,
                len: (count - start).min(context + 1),
            }
        });
        rows.filter(|row| self.counts(*row))
    }

    /// Whether a sequence has a target that counts.
    fn counts(&self, row: Row) -> bool {
        let targets = row.start + 1..row.start + row.len;
        !self.is_marked(row.document) || self.file.learns_any(row.document, targets)
    }

    /// Whether only the tokens of a document count that are marked as to be learned.
    fn is_marked(&self, document: usize) -> bool {
        let is_weighted = || self.reading.weights && self.is_weighted(document);
        self.reading.learn == Learn::Assistant || is_weighted()
    }

    /// Appends the ids of a sequence, at least two.
    pub fn read(&self, row: Row, ids: &mut Vec<u32>) {
        let range = row.start..row.start + row.len;
        self.file.read(row.document, range, ids);
    }

    /// Appends for each id of a sequence whether an assistant wrote it.
    pub fn read_learned(&self, row: Row, learned: &mut Vec<bool>) {
        let range = row.start..row.start + row.len;
        self.file.learned(row.document, range, learned);
    }

    /// Whether messages of a document are not to be learned: then no token is but those that
    /// [`Self::read_learned`] tells, also where a run learns all tokens.
    pub fn is_weighted(&self, document: usize) -> bool {
        self.file.is_weighted(document)
    }

    /// Lets go of the parts of the file that were read; see [`TokenFile::release`].
    pub fn release(&self) {
        self.file.release();
    }

    /// UTF-8 bytes that a sequence stands for: of a document in parts, or cut, its share by tokens, such that the shares
    /// of all parts add up to the whole.
    pub fn bytes(&self, row: Row) -> usize {
        let bytes = u64::from(self.file.bytes(row.document));
        let targets = (self.file.tokens_of(row.document) as u64).saturating_sub(1);
        let up_to = |target: usize| bytes * target as u64 / targets.max(1);
        (up_to(row.start + row.inputs()) - up_to(row.start)) as usize
    }

    /// The file this was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of documents.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Rows that could not be read, or that have no answer, and were left out.
    pub fn left_out(&self) -> u64 {
        self.file.malformed() + self.file.unanswered()
    }

    /// Ids in all.
    pub fn tokens(&self) -> u64 {
        self.file.total_tokens()
    }

    /// UTF-8 bytes in all.
    pub fn total_bytes(&self) -> u64 {
        self.file.total_bytes()
    }

    /// The index of a sequence's source in [`Self::sources`].
    pub fn source_of(&self, row: Row) -> usize {
        usize::from(self.file.source(row.document))
    }

    /// Names of the sources; rows that name none share an empty one.
    pub fn sources(&self) -> &[String] {
        self.file.sources()
    }

    /// Whether a document is running text rather than a conversation.
    pub fn is_text(&self, document: usize) -> bool {
        self.file.is_text(document)
    }

    /// SHA-256 of the contents, in hexadecimal: another one is another run.
    pub fn fingerprint(&self) -> &str {
        self.file.fingerprint()
    }

    /// Most inputs of a sequence.
    pub fn context(&self) -> usize {
        self.reading.context
    }
}

/// The tokens of data files that are no token files, in `target`; made anew unless what stands there is `kept`, current
/// and whole.
fn tokenized(
    inputs: &[PathBuf],
    tokenizer: &Tokenizer,
    target: &Path,
    kept: bool,
    limit: Option<usize>,
) -> Result<TokenFile> {
    let options = TokenizeOptions {
        limit: limit.map(|limit| limit as u64),
        ..TokenizeOptions::default()
    };
    if kept
        && let Ok(file) = TokenFile::open(target)
        && file.is_current(inputs, tokenizer, options.limit)
        && file.verify().is_ok()
    {
        return Ok(file);
    }
    tokenize(inputs, tokenizer, target, &options, |_| ())?;
    Ok(TokenFile::open(target)?)
}

#[cfg(test)]
impl Dataset {
    /// A dataset of conversations of given ids, each of at least two, one byte a target.
    pub(crate) fn from_sequences(sequences: &[Vec<u32>], context: usize) -> Self {
        let learned = |ids: &Vec<u32>| vec![true; ids.len()];
        let documents: Vec<_> = sequences
            .iter()
            .map(|ids| (ids.clone(), learned(ids)))
            .collect();
        Self::from_documents(&documents, context)
    }

    /// As [`Self::from_sequences`], with what an assistant wrote of each.
    pub(crate) fn from_documents(documents: &[(Vec<u32>, Vec<bool>)], context: usize) -> Self {
        Self::from_weighted(documents, false, context)
    }

    /// As [`Self::from_documents`], of conversations that have messages of weight 0, or have not.
    pub(crate) fn from_weighted(
        documents: &[(Vec<u32>, Vec<bool>)],
        is_weighted: bool,
        context: usize,
    ) -> Self {
        use mor_text::tokens::{EncodedDocument, TokenFileWriter};
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer");
        let tokenizer = Tokenizer::from_dir(&tokenizer).expect("the sample tokenizer");
        let path = tempfile::NamedTempFile::new()
            .expect("a temporary file")
            .into_temp_path();
        let mut writer = TokenFileWriter::create(&path, &tokenizer).expect("writable");
        for (ids, learned) in documents {
            let document = EncodedDocument {
                ids,
                learned,
                bytes: ids.len() - 1,
                source: "",
                is_text: false,
                is_weighted,
            };
            writer.push(&document).expect("writable");
        }
        writer.finish().expect("writable");
        let reading = Reading {
            context,
            overlong: Overlong::Truncate,
            learn: Learn::All,
            weights: false,
            limit: None,
        };
        let mut data = Self::open(&path, &tokenizer, None, reading).expect("whole");
        data._temporary = Some(path);
        data
    }
}
