//! Writing token files in one pass.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use mor_files::AtomicFile;
use sha2::{Digest, Sha256};

use super::file::{TEXT, WEIGHTED};
use super::header::{HEADER_BYTES, Header, MAX_METADATA};
use super::metadata::Metadata;
use crate::{Result, TextError, Tokenizer};

/// Sources told apart by name; past this many the last one collects the rest.
const MAX_SOURCES: usize = 4096;
/// Longest name of a source, in bytes; a longer one is cut.
const MAX_SOURCE_NAME: usize = 256;

/// A document's ids, with what a token file keeps of it.
#[derive(Clone, Copy, Debug)]
pub struct EncodedDocument<'a> {
    /// Its tokens.
    pub ids: &'a [u32],
    /// Whether a model learns to write each of them.
    pub learned: &'a [bool],
    /// UTF-8 bytes of its text.
    pub bytes: usize,
    /// Where it comes from.
    pub source: &'a str,
    /// Whether it is plain text rather than a conversation.
    pub is_text: bool,
    /// Whether it has messages that are not to be learned: then no other tokens are than those of `learned`, also
    /// where a run learns all that a text holds.
    pub is_weighted: bool,
}

/// Writes a token file document by document. Memory stays the same whatever its size: ids go to the file,
/// learned bits and index to temporary files beside it until the end. The file appears with
/// [`TokenFileWriter::finish`].
#[derive(Debug)]
pub struct TokenFileWriter {
    path: PathBuf,
    file: AtomicFile,
    learned: BufWriter<File>,
    index: BufWriter<File>,
    header: Header,
    /// Of what went to the file so far.
    hash: Sha256,
    /// Learned bits of the tokens after the last whole eight.
    bits: u8,
    source_numbers: HashMap<String, u16>,
    metadata: Metadata,
    /// Bytes to be written at once.
    buffer: Vec<u8>,
}

impl TokenFileWriter {
    /// Starts what will be the token file at `path`, of ids of `tokenizer`.
    ///
    /// # Errors
    /// [`TextError::Io`] if its folder cannot be written.
    pub fn create(path: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let mut file = AtomicFile::create(path)?;
        let io = |cause| TextError::io(path, cause);
        file.write_all(&[0; HEADER_BYTES]).map_err(io)?;
        let learned = BufWriter::with_capacity(1 << 16, file.scratch()?);
        let index = BufWriter::with_capacity(1 << 16, file.scratch()?);
        Ok(Self {
            path: path.to_owned(),
            file,
            learned,
            index,
            header: Header {
                width: if tokenizer.vocab_size() <= 1 << 16 {
                    2
                } else {
                    4
                },
                documents: 0,
                tokens: 0,
                bytes: 0,
                largest_id: 0,
                metadata: 0,
                fingerprint: [0; 32],
                tokenizer: tokenizer.fingerprint_bytes(),
            },
            hash: Sha256::new(),
            bits: 0,
            source_numbers: HashMap::new(),
            metadata: Metadata::default(),
            buffer: Vec::new(),
        })
    }

    /// Appends a document.
    ///
    /// # Errors
    /// [`TextError::Io`] if the disk is full, [`TextError::TokenFile`] if an id does not belong to the
    /// tokenizer or not every id has its learned bit.
    pub fn push(&mut self, document: &EncodedDocument<'_>) -> Result<()> {
        let EncodedDocument { ids, learned, .. } = *document;
        if learned.len() != ids.len() {
            return Err(self.refuse(format!("{} ids, {} learned bits", ids.len(), learned.len())));
        }
        self.buffer.clear();
        for &id in ids {
            if self.header.width == 2 {
                let id = u16::try_from(id)
                    .map_err(|_| self.refuse(format!("id {id} is outside the vocabulary")))?;
                self.buffer.extend(id.to_le_bytes());
            } else {
                self.buffer.extend(id.to_le_bytes());
            }
            self.header.largest_id = self.header.largest_id.max(id);
        }
        self.hash.update(&self.buffer);
        let path = &self.path;
        let io = |cause| TextError::io(path, cause);
        self.file.write_all(&self.buffer).map_err(io)?;

        self.buffer.clear();
        for (token, &learned) in (self.header.tokens..).zip(learned) {
            self.bits |= u8::from(learned) << (token % 8);
            if token % 8 == 7 {
                self.buffer.push(std::mem::take(&mut self.bits));
            }
        }
        self.learned.write_all(&self.buffer).map_err(io)?;

        let bytes = u32::try_from(document.bytes).unwrap_or(u32::MAX);
        let source = self.source(document.source);
        self.header.tokens += ids.len() as u64;
        self.header.documents += 1;
        self.header.bytes += u64::from(bytes);
        self.buffer.clear();
        self.buffer.extend(self.header.tokens.to_le_bytes());
        self.buffer.extend(bytes.to_le_bytes());
        self.buffer.extend(source.to_le_bytes());
        let text = if document.is_text { TEXT } else { 0 };
        let weighted = if document.is_weighted { WEIGHTED } else { 0 };
        self.buffer.extend((text | weighted).to_le_bytes());
        self.index
            .write_all(&self.buffer)
            .map_err(|cause| TextError::io(&self.path, cause))
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`TextError::Io`] if the disk is full.
    pub fn finish(mut self) -> Result<()> {
        let path = self.path.clone();
        let io = |cause| TextError::io(&path, cause);
        let ids = self.header.tokens * u64::from(self.header.width);
        self.pad(ids).map_err(io)?;
        if !self.header.tokens.is_multiple_of(8) {
            self.learned.write_all(&[self.bits]).map_err(io)?;
        }
        for section in [Section::Learned, Section::Index] {
            let length = self.append(section).map_err(io)?;
            self.pad(length).map_err(io)?;
        }
        self.header.fingerprint = self.hash.finalize_reset().into();

        let metadata =
            serde_json::to_vec(&self.metadata).map_err(|error| self.refuse(error.to_string()))?;
        if metadata.len() as u64 > MAX_METADATA {
            return Err(self.refuse("too many input files to list".to_owned()));
        }
        self.header.metadata = metadata.len() as u64;
        self.file.write_all(&metadata).map_err(io)?;
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        self.file
            .write_all(&self.header.write(&metadata))
            .map_err(io)?;
        Ok(self.file.commit()?)
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.header.documents
    }

    /// Tokens so far.
    pub fn tokens(&self) -> u64 {
        self.header.tokens
    }

    /// UTF-8 bytes of texts so far.
    pub fn bytes(&self) -> u64 {
        self.header.bytes
    }

    /// What the file will tell about where it comes from.
    pub(super) fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn source(&mut self, name: &str) -> u16 {
        let name = &name[..name.floor_char_boundary(MAX_SOURCE_NAME)];
        if let Some(&number) = self.source_numbers.get(name) {
            return number;
        }
        let sources = &mut self.metadata.sources;
        if sources.len() < MAX_SOURCES {
            sources.push(name.to_owned());
            let number = (sources.len() - 1) as u16;
            self.source_numbers.insert(name.to_owned(), number);
            return number;
        }
        (MAX_SOURCES - 1) as u16
    }

    /// Zeros after a section of `length` bytes.
    fn pad(&mut self, length: u64) -> std::io::Result<()> {
        let zeros = &[0; 8][..(length.next_multiple_of(8) - length) as usize];
        self.hash.update(zeros);
        self.file.write_all(zeros)
    }

    /// Copies a temporary file to the end of the file and returns its length.
    fn append(&mut self, section: Section) -> std::io::Result<u64> {
        let from = match section {
            Section::Learned => &mut self.learned,
            Section::Index => &mut self.index,
        };
        from.flush()?;
        let from = from.get_mut();
        from.seek(SeekFrom::Start(0))?;
        let mut length = 0;
        self.buffer.resize(1 << 16, 0);
        loop {
            let count = match from.read(&mut self.buffer) {
                Ok(0) => return Ok(length),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.hash.update(&self.buffer[..count]);
            self.file.write_all(&self.buffer[..count])?;
            length += count as u64;
        }
    }

    fn refuse(&self, reason: String) -> TextError {
        TextError::TokenFile {
            path: self.path.clone(),
            reason,
        }
    }
}

/// The sections that wait in temporary files.
#[derive(Clone, Copy)]
enum Section {
    Learned,
    Index,
}
