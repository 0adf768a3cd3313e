//! The operands of pickle opcodes.

use super::pickle::Value;

/// A pickle and how far it is read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..count).ok_or("the pickle is truncated")?;
        self.at += count;
        Ok(taken)
    }

    /// The next bytes as a little-endian number without sign, of at most eight bytes.
    fn unsigned(&mut self, count: usize) -> Result<u64, String> {
        let mut word = [0; 8];
        word[..count].copy_from_slice(self.take(count)?);
        Ok(u64::from_le_bytes(word))
    }

    /// The operand of an opcode that pushes a number.
    pub(super) fn number(&mut self, opcode: u8) -> Result<Value, String> {
        Ok(Value::Int(match opcode {
            b'J' => i64::from(self.unsigned(4)? as u32 as i32),
            b'K' => i64::from(self.byte()?),
            b'M' => self.unsigned(2)? as i64,
            b'G' => {
                self.take(8)?;
                return Ok(Value::Float);
            }
            // LONG1: two's complement of any length.
            _ => {
                let count = usize::from(self.byte()?);
                let bytes = self.take(count)?;
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut word = [if negative { 0xff } else { 0 }; 8];
                let word_part = word.get_mut(..count);
                let word_part = word_part.ok_or("a number has more than 64 bits")?;
                word_part.copy_from_slice(bytes);
                i64::from_le_bytes(word)
            }
        }))
    }

    /// Where the text (or the bytes) of an opcode that pushes one stands.
    pub(super) fn text(&mut self, opcode: u8) -> Result<(u32, u32), String> {
        let width = match opcode {
            b'U' | b'C' | 0x8c => 1,
            b'X' | b'T' | b'B' => 4,
            _ => 8,
        };
        let count = self.unsigned(width)?;
        let count = usize::try_from(count).map_err(|_| "a text is too long")?;
        let start = self.at;
        self.take(count)?;
        // The whole pickle is shorter than 2^32 bytes.
        Ok((start as u32, self.at as u32))
    }

    /// A text by its place.
    pub(super) fn text_at(&self, start: u32, end: u32) -> Result<&'a str, String> {
        let bytes = self.bytes.get(start as usize..end as usize);
        std::str::from_utf8(bytes.unwrap_or_default()).map_err(|_| "a name is not UTF-8".to_owned())
    }

    /// The key of an opcode that remembers or recalls.
    pub(super) fn memo_key(&mut self, long: bool) -> Result<u32, String> {
        Ok(self.unsigned(if long { 4 } else { 1 })? as u32)
    }

    /// The text up to the next line feed.
    pub(super) fn line(&mut self) -> Result<&'a str, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = self.take(end.ok_or("the pickle is truncated")?)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| "a name is not UTF-8".to_owned())
    }
}
