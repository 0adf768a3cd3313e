//! Ranks as tiktoken has them: each token's bytes in base 64 and its rank, which is its id.

use std::collections::HashMap;
use std::path::Path;

use super::import;
use super::merges::Merge;
use crate::special::END_OF_TEXT;
use crate::{Result, bytes};

/// Longest token, in bytes: finding its merge takes time in the square of this.
const MAX_TOKEN: usize = 256;

/// The vocabulary and the merges that ranks stand for. `<|endoftext|>`, which is not in the list, follows the last.
pub(super) fn read(path: &Path, file: &[u8]) -> Result<(HashMap<String, u32>, Vec<Merge>)> {
    let mut ranks: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    for (number, line) in (1..).zip(file.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let parsed = parse(line).filter(|(token, _)| (1..=MAX_TOKEN).contains(&token.len()));
        let Some((token, rank)) = parsed else {
            return Err(import(
                path,
                format!("line {number} is not a token in base 64 and its rank"),
            ));
        };
        if rank as usize != tokens.len() {
            return Err(import(
                path,
                format!("line {number} has rank {rank}; expected {}", tokens.len()),
            ));
        }
        tokens.push(token.clone());
        ranks.insert(token, rank);
    }
    let mut merges = Vec::new();
    for (rank, token) in (0..).zip(&tokens) {
        if token.len() > 1 {
            let split = halves(token, rank, &ranks).ok_or_else(|| {
                import(
                    path,
                    format!("the token of rank {rank} is not made of two of lower rank"),
                )
            })?;
            merges.push((spell(&token[..split]), spell(&token[split..])));
        }
    }
    let mut vocab: HashMap<String, u32> = ranks
        .iter()
        .map(|(token, &rank)| (spell(token), rank))
        .collect();
    vocab.insert(END_OF_TEXT.to_owned(), tokens.len() as u32);
    Ok((vocab, merges))
}

/// Where a token is cut by merging its bytes as far as the tokens before it allow.
fn halves(token: &[u8], rank: u32, ranks: &HashMap<Vec<u8>, u32>) -> Option<usize> {
    let mut bounds: Vec<usize> = (0..=token.len()).collect();
    while bounds.len() > 3 {
        let pairs = bounds.windows(3).enumerate();
        let ranked =
            pairs.filter_map(|(at, pair)| Some((*ranks.get(&token[pair[0]..pair[2]])?, at)));
        let (lowest, at) = ranked.min()?;
        if lowest >= rank {
            return None;
        }
        bounds.remove(at + 1);
    }
    Some(bounds[1])
}

fn parse(line: &[u8]) -> Option<(Vec<u8>, u32)> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let rank = std::str::from_utf8(&line[space + 1..]).ok()?.parse().ok()?;
    Some((from_base64(&line[..space])?, rank))
}

/// Bytes from base 64, padded or not.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0);
    for c in text.iter().copied().take_while(|c| *c != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        word = (word << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    Some(bytes)
}

/// Bytes in the byte-level alphabet.
fn spell(token: &[u8]) -> String {
    token.iter().map(|byte| bytes::char_of(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_any_length() {
        for (text, expected) in [
            ("IQ==", "!"),
            ("ICE=", " !"),
            ("dGhl", "the"),
            ("dGg", "th"),
        ] {
            assert_eq!(from_base64(text.as_bytes()).unwrap(), expected.as_bytes());
        }
        assert!(from_base64(b"a-b").is_none());
    }
}
