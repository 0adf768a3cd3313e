//! Reading token files, which are not trusted.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::header::{ENTRY_BYTES, HEADER_BYTES, Header, MAGIC, Sections, u32_at, u64_at};
use super::metadata::{Metadata, Origin};
use crate::{Result, TextError, Tokenizer};

/// Bytes that are checked before their memory is let go.
const VERIFIED: usize = 64 << 20;

/// The bit in the kind of a document that is plain text.
pub(super) const TEXT: u16 = 1;
/// The bit in the kind of a document that has messages of weight 0.
pub(super) const WEIGHTED: u16 = 2;

/// Token ids of many documents, conversations or plain text, in one file that is mapped into memory.
///
/// [`TokenFile::open`] checks header and metadata; [`TokenFile::verify`] checks all of it. Where a file that
/// was not verified is damaged, documents are cut to what is there: no method panics or returns more than the
/// file's ids.
///
/// ```
/// use std::path::Path;
///
/// use mor_text::Tokenizer;
/// use mor_text::tokens::{TokenFile, TokenizeOptions, tokenize};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("train.tokens");
/// let tokenizer = Tokenizer::from_dir(Path::new("../../tests/data/tokenizer"))?;
/// let inputs = ["../../tests/data/formats/alpaca.json".into()];
/// tokenize(&inputs, &tokenizer, &path, &TokenizeOptions::default(), |_| {})?;
///
/// let file = TokenFile::open(&path)?;
/// file.verify()?;
/// let mut ids = Vec::new();
/// file.read(0, 0..file.tokens_of(0), &mut ids);
/// assert!(tokenizer.decode(&ids).contains("Give the opposite of the word."));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    map: Mmap,
    header: Header,
    sections: Sections,
    metadata: Metadata,
    fingerprint: String,
    tokenizer: String,
}

impl TokenFile {
    /// Maps a file, and checks its header and metadata. Takes the same time and memory whatever the file's
    /// size.
    ///
    /// # Errors
    /// [`TextError::Io`] if it cannot be read, [`TextError::TokenFile`] if it is not a whole token file.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self> {
        let io = |cause| TextError::io(path, cause);
        let refuse = |reason| TextError::TokenFile {
            path: path.to_owned(),
            reason,
        };
        let file = std::fs::File::open(path).map_err(io)?;
        // An empty file cannot be mapped on every system, and a folder on none.
        if !Self::is_token_file(path)? {
            Header::read(&[]).map_err(refuse)?;
        }
        // SAFETY: the map is read-only and private. Another process truncating the file while it is mapped
        // would fault, as it would any program that maps its data; files written here are replaced, never
        // shortened.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let (header, sections) = Header::read(&map).map_err(refuse)?;
        let metadata: Metadata = serde_json::from_slice(&map[sections.metadata.clone()])
            .map_err(|error| refuse(format!("its metadata cannot be read: {error}")))?;
        if metadata.sources.is_empty() && header.documents > 0 {
            return Err(refuse("its documents have no sources".to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            fingerprint: hexadecimal(&header.fingerprint),
            tokenizer: hexadecimal(&header.tokenizer),
            map,
            header,
            sections,
            metadata,
        })
    }

    /// Whether the file at `path` begins as a token file does.
    ///
    /// # Errors
    /// [`TextError::Io`] if it cannot be read.
    pub fn is_token_file(path: &Path) -> Result<bool> {
        let io = |cause| TextError::io(path, cause);
        let file = std::fs::File::open(path).map_err(io)?;
        let mut start = Vec::with_capacity(MAGIC.len());
        file.take(MAGIC.len() as u64)
            .read_to_end(&mut start)
            .map_err(io)?;
        Ok(start == MAGIC)
    }

    /// Checks the whole file against its checksum.
    ///
    /// # Errors
    /// [`TextError::TokenFile`] if any of its bytes has changed.
    pub fn verify(&self) -> Result<()> {
        let body = &self.map[HEADER_BYTES..self.sections.index.end];
        let mut hash = Sha256::new();
        for portion in body.chunks(VERIFIED) {
            hash.update(portion);
            // Else the whole file would count as this process's memory.
            self.release();
        }
        let found: [u8; 32] = hash.finalize().into();
        if found == self.header.fingerprint {
            return Ok(());
        }
        Err(TextError::TokenFile {
            path: self.path.clone(),
            reason: "damaged: its checksum does not match; make it again".to_owned(),
        })
    }

    /// The file this is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.sections.index.len() / ENTRY_BYTES
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tokens a document has; none past the last document.
    pub fn tokens_of(&self, document: usize) -> usize {
        self.span(document).len()
    }

    /// Appends to `ids` those of a `range` of a document's tokens, as far as there are any.
    pub fn read(&self, document: usize, range: Range<usize>, ids: &mut Vec<u32>) {
        let tokens = self.part(document, range);
        let stored = &self.map[self.sections.ids.clone()];
        // In a damaged file too, no id is above the one that was checked against a model.
        let largest = self.header.largest_id;
        if self.header.width == 2 {
            let (stored, _) = stored[2 * tokens.start..2 * tokens.end].as_chunks();
            ids.extend(
                stored
                    .iter()
                    .map(|&id| u32::from(u16::from_le_bytes(id)).min(largest)),
            );
        } else {
            let (stored, _) = stored[4 * tokens.start..4 * tokens.end].as_chunks();
            ids.extend(stored.iter().map(|&id| u32::from_le_bytes(id).min(largest)));
        }
    }

    /// Appends to `out`, for a `range` of a document's tokens, whether a model learns to write each: see
    /// [`Tokenizer::encode_chat_learned`]. Of plain text all are.
    pub fn learned(&self, document: usize, range: Range<usize>, out: &mut Vec<bool>) {
        let bits = &self.map[self.sections.learned.clone()];
        out.extend(
            self.part(document, range)
                .map(|token| bits[token / 8] >> (token % 8) & 1 == 1),
        );
    }

    /// Whether a model learns to write any of a `range` of a document's tokens.
    pub fn learns_any(&self, document: usize, range: Range<usize>) -> bool {
        let bits = &self.map[self.sections.learned.clone()];
        self.part(document, range)
            .any(|token| bits[token / 8] >> (token % 8) & 1 == 1)
    }

    /// UTF-8 bytes of a document's text: of a conversation, the contents of its messages.
    pub fn bytes(&self, document: usize) -> u32 {
        u32_at(self.entry(document), 8)
    }

    /// A document's source, as an index of [`Self::sources`].
    pub fn source(&self, document: usize) -> u16 {
        let stored = u32_at(self.entry(document), 12) as u16;
        stored.min(self.metadata.sources.len().saturating_sub(1) as u16)
    }

    /// Whether a document is plain text, which may be cut anywhere, rather than a conversation. The documents
    /// of a long text follow one another.
    pub fn is_text(&self, document: usize) -> bool {
        self.kind(document) & TEXT != 0
    }

    /// Whether a document has messages that are not to be learned, so that its learned bits hold for whoever learns all
    /// that a text holds, too.
    pub fn is_weighted(&self, document: usize) -> bool {
        self.kind(document) & WEIGHTED != 0
    }

    fn kind(&self, document: usize) -> u16 {
        (u32_at(self.entry(document), 12) >> 16) as u16
    }

    /// Conversations of more inputs than `context`, and their tokens beyond it: what is cut where conversations are
    /// not split. A sequence of `n` tokens has `n - 1` inputs.
    pub fn beyond(&self, context: usize) -> (u64, u64) {
        let conversations = (0..self.len()).filter(|&document| !self.is_text(document));
        let beyond = conversations
            .map(|document| {
                self.tokens_of(document)
                    .saturating_sub(context.saturating_add(1))
            })
            .filter(|&tokens| tokens > 0);
        beyond.fold((0, 0), |(count, sum), tokens| {
            (count + 1, sum + tokens as u64)
        })
    }

    /// Names of the sources.
    pub fn sources(&self) -> &[String] {
        &self.metadata.sources
    }

    /// Tokens of all documents.
    pub fn total_tokens(&self) -> u64 {
        self.header.tokens
    }

    /// UTF-8 bytes of all documents.
    pub fn total_bytes(&self) -> u64 {
        self.header.bytes
    }

    /// The largest id, for the check that a tokenizer fits a model.
    pub fn largest_id(&self) -> u32 {
        self.header.largest_id
    }

    /// SHA-256 of the documents, in hexadecimal: the same texts, tokenizer and order give the same.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// [`Tokenizer::fingerprint`] of the tokenizer that made the file.
    pub fn tokenizer(&self) -> &str {
        &self.tokenizer
    }

    /// The files that were read.
    pub fn origin(&self) -> &[Origin] {
        &self.metadata.origin
    }

    /// The limit of documents under which the file was made, if there was one.
    pub fn limit(&self) -> Option<u64> {
        self.metadata.limit
    }

    /// Rows that were malformed and are left out.
    pub fn malformed(&self) -> u64 {
        self.metadata.malformed
    }

    /// Rows without an answer, which are left out.
    pub fn unanswered(&self) -> u64 {
        self.metadata.unanswered
    }

    /// Lets go of the parts that were read. They are mapped again when they are wanted; until then they do not count as
    /// this process's memory, which would otherwise grow towards the size of the file.
    #[allow(unsafe_code)]
    pub fn release(&self) {
        #[cfg(unix)]
        // SAFETY: nothing is ever written through this map, so its pages can be read from the file again. That the
        // advice may be refused changes nothing.
        let _ = unsafe {
            self.map
                .unchecked_advise(memmap2::UncheckedAdvice::DontNeed)
        };
    }

    /// Whether tokenizing `inputs` as they are now would give this file again: names and contents are the same.
    pub fn is_current(
        &self,
        inputs: &[PathBuf],
        tokenizer: &Tokenizer,
        limit: Option<u64>,
    ) -> bool {
        let origin = self.origin();
        self.tokenizer == tokenizer.fingerprint()
            && self.limit() == limit
            && origin.len() == inputs.len()
            && inputs
                .par_iter()
                .zip(origin)
                .all(|(input, then)| then.is_still(input))
    }

    /// A document's entry of the index, or nothing past the last.
    fn entry(&self, document: usize) -> &[u8] {
        let index = &self.map[self.sections.index.clone()];
        let start = document.saturating_mul(ENTRY_BYTES);
        index
            .get(start..start.saturating_add(ENTRY_BYTES))
            .unwrap_or_default()
    }

    /// Where a document's tokens lie among all, whatever the index says.
    fn span(&self, document: usize) -> Range<usize> {
        let tokens = self.header.tokens;
        let entry = self.entry(document);
        if entry.is_empty() {
            return 0..0;
        }
        let end = u64_at(entry, 0).min(tokens);
        let start = match document.checked_sub(1) {
            Some(before) => u64_at(self.entry(before), 0).min(end),
            None => 0,
        };
        // Both are at most the number of tokens, which was checked to be addressable.
        start as usize..end as usize
    }

    /// Where a range of a document's tokens lies among all.
    fn part(&self, document: usize, range: Range<usize>) -> Range<usize> {
        let span = self.span(document);
        let end = range.end.min(span.len());
        let start = range.start.min(end);
        span.start + start..span.start + end
    }
}

pub(super) fn hexadecimal(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
