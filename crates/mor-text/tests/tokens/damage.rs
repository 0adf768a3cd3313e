//! Damaged and forged token files give errors and do no harm.

use std::sync::LazyLock;

use mor_text::Result;
use mor_text::tokens::{TokenFile, TokenizeOptions};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{Folder, document, row};

/// A token file of three documents, and where its body ends.
static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = Folder::new();
    let rows = row("question", "answer") + &row("what?", "that");
    let inputs = [
        folder.write("a.jsonl", rows),
        folder.write("b.txt", "text\n"),
    ];
    folder
        .tokenize(&inputs, &TokenizeOptions::default())
        .unwrap();
    std::fs::read(folder.output()).unwrap()
});

/// Opens `bytes` as a token file and reads all of it.
fn read_all(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    let file = TokenFile::open(&folder.write("a.tokens", bytes))?;
    for number in (0..file.len()).chain([usize::MAX]) {
        let (ids, _) = document(&file, number);
        assert!(ids.len() as u64 <= file.total_tokens());
        assert!(ids.iter().all(|&id| id <= file.largest_id()));
        let source = usize::from(file.source(number));
        assert!(source < file.sources().len() || file.is_empty());
        let _ = (file.is_text(number), file.bytes(number));
    }
    file.verify()
}

/// Makes the header's own checksum right again.
fn seal(bytes: &mut [u8]) {
    let metadata = u64::from_le_bytes(bytes[48..56].try_into().unwrap());
    let start = bytes
        .len()
        .saturating_sub(metadata.min(1 << 20) as usize)
        .max(160);
    let mut hash = Sha256::new_with_prefix(&bytes[..128]);
    hash.update(&bytes[start..]);
    let seal = hash.finalize();
    bytes[128..160].copy_from_slice(&seal);
}

#[test]
fn other_files_are_told_apart() {
    read_all(&FILE).unwrap();
    let refused = |bytes: &[u8], reason: &str| {
        let error = read_all(bytes).unwrap_err().to_string();
        assert!(
            error.contains("a.tokens: ") && error.contains(reason),
            "{error}"
        );
    };
    refused(b"", "not a token file");
    refused(b"{\"messages\":[]}", "not a token file");
    refused(&FILE[..100], "less than a token file's header");
    refused(&FILE[..FILE.len() - 1], "damaged or incomplete");
    let mut newer = FILE.clone();
    newer[8] = 2;
    refused(&newer, "version 2, this program reads version 1");

    let folder = Folder::new();
    assert!(TokenFile::is_token_file(&folder.write("a", &*FILE)).unwrap());
    assert!(!TokenFile::is_token_file(&folder.write("b", "MORTOK")).unwrap());
    assert!(TokenFile::open(folder.0.path()).is_err(), "a folder");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let mut bytes = FILE.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert!(read_all(&bytes).is_err());
    }

    #[test]
    fn every_truncation_is_refused(length in any::<prop::sample::Index>()) {
        prop_assert!(read_all(&FILE[..length.index(FILE.len())]).is_err());
    }

    /// Whoever writes a file to do harm gets its checksums right.
    #[test]
    fn forged_headers_and_indexes_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        let mut bytes = FILE.clone();
        for (at, value, in_header) in changes {
            let end = if in_header { 128 } else { bytes.len() };
            bytes[at.index(end)] = value;
        }
        seal(&mut bytes);
        let _ = read_all(&bytes);
    }
}
