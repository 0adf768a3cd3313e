//! Training sequences out of a token file: a conversation each, or windows of running text.

use std::path::{Path, PathBuf};

use mor_text::Tokenizer;
use mor_text::tokens::{TokenFile, TokenizeOptions, tokenize};
use serde::{Deserialize, Serialize};

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

/// The sequences of a data file. Token ids stay in a memory-mapped file and sequences are cut when they are asked
/// for, so memory does not grow with the data.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    file: TokenFile,
    context: usize,
    overlong: Overlong,
    documents: usize,
    /// Keeps a token file that was made for this process alone.
    _temporary: Option<tempfile::TempPath>,
}

impl Dataset {
    /// Opens a token file, or tokenizes any other data file first: into `cache`, where a later run finds it again,
    /// or into a temporary file. `limit` stops after so many documents.
    ///
    /// # Errors
    /// [`TrainError::Text`] for an unreadable file; [`TrainError::Data`] if it has nothing to
    /// learn from or was tokenized by another tokenizer.
    pub fn open(
        path: &Path,
        tokenizer: &Tokenizer,
        cache: Option<&Path>,
        context: usize,
        overlong: Overlong,
        limit: Option<usize>,
    ) -> Result<Self> {
        let fail = |problem: &str| TrainError::Data {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        if path.is_dir() {
            return Err(fail(
                "is a folder; expected a data file, or one made by `mor data prepare`",
            ));
        }
        let mut temporary = None;
        let file = if path.is_file() && TokenFile::is_token_file(path)? {
            let file = TokenFile::open(path)?;
            if file.tokenizer() != tokenizer.fingerprint() {
                return Err(fail(
                    "was tokenized by another tokenizer; prepare it again with this model's",
                ));
            }
            file
        } else {
            let inputs = [path.to_owned()];
            let target = match cache {
                Some(cache) => cache.to_owned(),
                None => {
                    let made = tempfile::Builder::new().suffix(".tokens").tempfile();
                    let made = made.map_err(TrainError::io(&std::env::temp_dir()))?;
                    temporary.insert(made.into_temp_path()).to_path_buf()
                }
            };
            let options = TokenizeOptions {
                limit: limit.map(|limit| limit as u64),
                ..TokenizeOptions::default()
            };
            match cache.map(TokenFile::open) {
                Some(Ok(file)) if file.is_current(&inputs, tokenizer, options.limit) => {
                    file.verify()?;
                    file
                }
                _ => {
                    tokenize(&inputs, tokenizer, &target, &options, |_| ())?;
                    TokenFile::open(&target)?
                }
            }
        };
        let data = Self {
            path: path.to_owned(),
            documents: limit.unwrap_or(usize::MAX).min(file.len()),
            file,
            context,
            overlong,
            _temporary: temporary,
        };
        if (0..data.documents).all(|document| data.rows_of(document).next().is_none()) {
            return Err(fail("has no text to learn from"));
        }
        Ok(data)
    }

    /// The sequences of a document, first to last; each begins with the last target of the one before, so every id
    /// but the first is a target exactly once.
    pub fn rows_of(&self, document: usize) -> impl Iterator<Item = Row> + use<> {
        let count = self.file.tokens_of(document);
        let cut = self.overlong == Overlong::Truncate && !self.file.is_text(document);
        let count = if cut {
            count.min(self.context + 1)
        } else {
            count
        };
        let context = self.context;
        let windows = count.saturating_sub(1).div_ceil(context);
        (0..windows).map(move |window| {
            let start = window * context;
            Row {
                document,
                start,
                len: (count - start).min(context + 1),
            }
        })
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
        self.context
    }
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
            };
            writer.push(&document).expect("writable");
        }
        writer.finish().expect("writable");
        let file = TokenFile::open(&path).expect("whole");
        Self {
            path: path.to_path_buf(),
            documents: file.len(),
            file,
            context,
            overlong: Overlong::Truncate,
            _temporary: Some(path),
        }
    }
}
