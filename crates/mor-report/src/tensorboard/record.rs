//! TFRecord: each message between its length and its checksum.
//!
//! ```text
//! u64 length | u32 masked CRC-32C of the length | message | u32 masked CRC-32C of the message
//! ```
//!
//! All little-endian.

use std::io::Write;

/// Appends a record.
pub(super) fn write(writer: &mut impl Write, message: &[u8]) -> std::io::Result<()> {
    let length = (message.len() as u64).to_le_bytes();
    writer.write_all(&length)?;
    writer.write_all(&checksum(&length).to_le_bytes())?;
    writer.write_all(message)?;
    writer.write_all(&checksum(message).to_le_bytes())
}

/// CRC-32C, masked: the checksum of data that holds its own checksum would otherwise be a constant.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// The messages of a file, or what is wrong with it.
#[cfg(test)]
pub(super) fn read_all(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = bytes.split_at_checked(count).ok_or("cut short")?;
        *bytes = rest;
        let sum = rest.first_chunk::<4>().ok_or("cut short")?;
        *bytes = &rest[4..];
        if u32::from_le_bytes(*sum) != checksum(taken) {
            return Err(format!("wrong checksum of {count} bytes"));
        }
        Ok(taken)
    }
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let length = take(&mut bytes, 8)?.try_into().map_err(|_| "cut short")?;
        messages.push(take(&mut bytes, u64::from_le_bytes(length) as usize)?.to_vec());
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_format() {
        // RFC 3720, B.4: the CRC-32C of 32 zeros is 0x8a9136aa. Masked, worked out by hand:
        assert_eq!(checksum(&[0; 32]), 0x0fd7_fffa);
    }

    #[test]
    fn records_read_back_and_damage_is_noticed() {
        let mut file = Vec::new();
        write(&mut file, b"first").expect("memory");
        write(&mut file, b"").expect("memory");
        assert_eq!(read_all(&file), Ok(vec![b"first".to_vec(), Vec::new()]));
        for index in 0..file.len() {
            let mut damaged = file.clone();
            damaged[index] ^= 4;
            assert!(read_all(&damaged).is_err(), "byte {index}");
        }
    }
}
