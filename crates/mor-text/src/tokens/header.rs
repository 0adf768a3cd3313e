//! The first 160 bytes of a token file, and the sections whose lengths follow from them.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// The file's first bytes. The line feed reveals a transfer that rewrites line ends.
pub(crate) const MAGIC: [u8; 8] = *b"MORTOK\n\0";
/// The version that this program writes and reads.
pub(super) const VERSION: u32 = 1;
/// Bytes before the ids.
pub(super) const HEADER_BYTES: usize = 160;
/// Bytes of one entry of the index.
pub(super) const ENTRY_BYTES: usize = 16;
/// Longest metadata accepted: it is parsed in memory.
pub(super) const MAX_METADATA: u64 = 64 << 20;

/// Where the seal begins, which covers everything before it.
const SEAL: usize = 128;

/// What a token file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of an id: 2 or 4.
    pub(super) width: u32,
    pub(super) documents: u64,
    pub(super) tokens: u64,
    /// UTF-8 bytes of the texts.
    pub(super) bytes: u64,
    pub(super) largest_id: u32,
    /// Bytes of metadata.
    pub(super) metadata: u64,
    /// SHA-256 of ids, learned bits and index.
    pub(super) fingerprint: [u8; 32],
    /// Fingerprint of the tokenizer.
    pub(super) tokenizer: [u8; 32],
}

/// The parts of a file, as ranges of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sections {
    pub(super) ids: Range<usize>,
    pub(super) learned: Range<usize>,
    pub(super) index: Range<usize>,
    pub(super) metadata: Range<usize>,
}

impl Header {
    /// The header's bytes, sealed together with the `metadata`.
    pub(super) fn write(&self, metadata: &[u8]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.width.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.documents.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.tokens.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.largest_id.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.metadata.to_le_bytes());
        bytes[64..96].copy_from_slice(&self.fingerprint);
        bytes[96..128].copy_from_slice(&self.tokenizer);
        let seal = seal(&bytes, metadata);
        bytes[SEAL..].copy_from_slice(&seal);
        bytes
    }

    /// Reads and checks the header of a whole `file`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(file: &[u8]) -> Result<(Self, Sections), String> {
        if !file.starts_with(&MAGIC) {
            return Err("not a token file; `mor data prepare --tokenizer` writes them".to_owned());
        }
        if file.len() < HEADER_BYTES {
            return Err(format!(
                "{} bytes, less than a token file's header; make it again",
                file.len()
            ));
        }
        let version = u32_at(file, 8);
        if version != VERSION {
            return Err(format!(
                "a token file of version {version}, this program reads version {VERSION}; make it again"
            ));
        }
        let header = Self {
            width: u32_at(file, 12),
            documents: u64_at(file, 16),
            tokens: u64_at(file, 24),
            bytes: u64_at(file, 32),
            largest_id: u32_at(file, 40),
            metadata: u64_at(file, 48),
            fingerprint: hash_at(file, 64),
            tokenizer: hash_at(file, 96),
        };
        let sections = header
            .sections()
            .ok_or("its header makes no sense; make it again")?;
        if sections.metadata.end != file.len() {
            return Err(format!(
                "{} bytes where its header tells of {}; it is damaged or incomplete, make it again",
                file.len(),
                sections.metadata.end
            ));
        }
        if seal(file, &file[sections.metadata.clone()]) != file[SEAL..HEADER_BYTES] {
            return Err("the checksum of its header does not match; make it again".to_owned());
        }
        Ok((header, sections))
    }

    /// Where the parts of the file lie, or `None` if no file can be so.
    fn sections(&self) -> Option<Sections> {
        if !matches!(self.width, 2 | 4) || self.metadata > MAX_METADATA {
            return None;
        }
        let tokens = usize::try_from(self.tokens).ok()?;
        let documents = usize::try_from(self.documents).ok()?;
        let mut end = HEADER_BYTES;
        let mut take = |length: usize| {
            let start = end;
            end = start.checked_add(length)?;
            Some(start..end)
        };
        Some(Sections {
            ids: take(
                tokens
                    .checked_mul(self.width as usize)?
                    .checked_next_multiple_of(8)?,
            )?,
            learned: take(tokens.div_ceil(8).checked_next_multiple_of(8)?)?,
            index: take(documents.checked_mul(ENTRY_BYTES)?)?,
            metadata: take(usize::try_from(self.metadata).ok()?)?,
        })
    }
}

/// SHA-256 of the header's fields and the metadata.
fn seal(header: &[u8], metadata: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(&header[..SEAL]);
    hash.update(metadata);
    hash.finalize().into()
}

/// The number at `at`; zero past the end.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(found.copied().unwrap_or_default())
}

/// The number at `at`; zero past the end.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u64::from_le_bytes(found.copied().unwrap_or_default())
}

fn hash_at(bytes: &[u8], at: usize) -> [u8; 32] {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        width: 2,
        documents: 2,
        tokens: 9,
        bytes: 30,
        largest_id: 7,
        metadata: 2,
        fingerprint: [1; 32],
        tokenizer: [2; 32],
    };

    /// A file whose seal is right, whatever else is not.
    fn file(header: &Header, length: usize) -> Vec<u8> {
        let mut file = header.write(b"{}").to_vec();
        file.resize(length - 2, 0);
        file.extend(b"{}");
        file
    }

    #[test]
    fn sections_follow_from_the_counts() {
        let length = 160 + 24 + 8 + 32 + 2;
        let (header, sections) = Header::read(&file(&HEADER, length)).unwrap();
        assert_eq!(header, HEADER);
        assert_eq!((sections.ids, sections.learned), (160..184, 184..192));
        assert_eq!((sections.index, sections.metadata), (192..224, 224..226));
    }

    #[test]
    fn counts_that_no_file_can_have_are_refused() {
        let refused = |header: Header| Header::read(&file(&header, 226)).unwrap_err();
        for header in [
            Header { width: 3, ..HEADER },
            Header {
                tokens: u64::MAX,
                ..HEADER
            },
            Header {
                tokens: u64::MAX / 2 - 1,
                ..HEADER
            },
            Header {
                documents: u64::MAX / 16,
                ..HEADER
            },
            Header {
                metadata: u64::MAX,
                ..HEADER
            },
        ] {
            assert!(refused(header).contains("makes no sense"));
        }
        assert!(
            refused(Header {
                tokens: 13,
                ..HEADER
            })
            .contains("226 bytes where")
        );
    }
}
