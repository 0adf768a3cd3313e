//! The byte-level alphabet: GPT-2's one printable character for each of the 256 bytes.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Character of each byte.
static CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 256u32;
    std::array::from_fn(|byte| match byte as u8 {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte as u8),
        // Bytes without a printable character of their own take the ones from U+0100 on, in order.
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    })
});

static BYTES: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    CHARS
        .iter()
        .enumerate()
        .map(|(byte, &c)| (c, byte as u8))
        .collect()
});

/// The character that stands for `byte`.
pub(crate) fn char_of(byte: u8) -> char {
    CHARS[usize::from(byte)]
}

/// The bytes a token's string stands for, or `None` if it holds a character outside the alphabet.
pub(crate) fn bytes_of(token: &str) -> Option<Vec<u8>> {
    token.chars().map(|c| BYTES.get(&c).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_the_one_of_the_tokenizers_crate() {
        let theirs = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let ours: std::collections::HashSet<char> = CHARS.iter().copied().collect();
        assert_eq!(ours.len(), 256);
        assert!(ours.iter().all(|c| theirs.contains(c)));
        assert_eq!(char_of(b' '), 'Ġ');
        assert_eq!(bytes_of("Ġa"), Some(b" a".to_vec()));
        assert_eq!(bytes_of("日"), None);
    }
}
