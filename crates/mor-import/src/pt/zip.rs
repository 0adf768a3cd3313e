//! Zip archives, as far as PyTorch writes them: one disk, no encryption, entries stored or deflated, zip64.
//!
//! The entries stay where they are in the file's bytes. Nothing is reserved for what the archive claims about itself
//! before the claim is compared with the size of the file; general readers reserve by the claimed number of entries.

use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;

/// One file of the archive.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where its name stands in the archive.
    name: Range<usize>,
    /// Where its (compressed) bytes stand in the archive.
    data: Range<usize>,
    /// Bytes once uncompressed.
    size: usize,
    deflated: bool,
}

impl Entry {
    /// The name, with its folders.
    pub(super) fn name<'a>(&self, archive: &'a [u8]) -> &'a [u8] {
        archive.get(self.name.clone()).unwrap_or_default()
    }

    /// Bytes once uncompressed.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The contents. A deflated entry may not be larger than twice the archive.
    pub(super) fn read<'a>(&self, archive: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        let data = archive.get(self.data.clone()).unwrap_or_default();
        if !self.deflated {
            return Ok(Cow::Borrowed(data));
        }
        let name = String::from_utf8_lossy(self.name(archive));
        if self.size > archive.len().saturating_mul(2) {
            return Err(format!(
                "`{name}` would unpack to {} bytes, more than twice the file; save it again without compression",
                self.size
            ));
        }
        let mut contents = Vec::with_capacity(self.size);
        flate2::read::DeflateDecoder::new(data)
            .take(self.size as u64)
            .read_to_end(&mut contents)
            .map_err(|error| format!("`{name}` cannot be unpacked: {error}"))?;
        if contents.len() != self.size {
            return Err(format!(
                "`{name}` unpacks to {} bytes, not {}",
                contents.len(),
                self.size
            ));
        }
        Ok(Cow::Owned(contents))
    }
}

const END: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const LOCATOR_64_LEN: usize = 20;
const END_64: &[u8] = b"PK\x06\x06";
const CENTRAL: &[u8] = b"PK\x01\x02";
const CENTRAL_LEN: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_LEN: usize = 30;
/// A comment of up to this many bytes may follow the end record.
const MAX_COMMENT: usize = u16::MAX as usize;

/// All entries, sorted by name.
pub(super) fn entries(archive: &[u8]) -> Result<Vec<Entry>, String> {
    let directory = directory(archive)?;
    // Counted first, so that exactly as many are reserved as there are.
    let mut count = 0;
    walk(archive, directory.clone(), |_| {
        count += 1;
        Ok(())
    })?;
    let mut entries = Vec::with_capacity(count);
    walk(archive, directory, |header| {
        entries.push(entry(archive, header)?);
        Ok(())
    })?;
    entries.sort_unstable_by(|a, b| a.name(archive).cmp(b.name(archive)));
    Ok(entries)
}

/// Where the central directory stands.
fn directory(archive: &[u8]) -> Result<Range<usize>, String> {
    let truncated = || "it has no zip directory at its end: the file is truncated".to_owned();
    let first = archive.len().saturating_sub(END_LEN + MAX_COMMENT);
    let tail = &archive[first..];
    let end = tail
        .windows(END.len())
        .rposition(|window| window == END)
        .ok_or_else(truncated)?
        + first;
    let mut size = u64::from(u32_at(archive, end + 12).ok_or_else(truncated)?);
    let mut start = u64::from(u32_at(archive, end + 16).ok_or_else(truncated)?);
    if size == u64::from(u32::MAX) || start == u64::from(u32::MAX) {
        let locator = end
            .checked_sub(LOCATOR_64_LEN)
            .filter(|at| archive[*at..].starts_with(LOCATOR_64));
        let record = locator
            .and_then(|at| u64_at(archive, at + 8))
            .and_then(|at| usize::try_from(at).ok())
            .filter(|at| {
                let record = archive.get(*at..).unwrap_or_default();
                record.starts_with(END_64)
            })
            .ok_or_else(truncated)?;
        size = u64_at(archive, record + 40).ok_or_else(truncated)?;
        start = u64_at(archive, record + 48).ok_or_else(truncated)?;
    }
    let end = start.checked_add(size).ok_or_else(truncated)?;
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if end <= archive.len() => Ok(start..end),
        _ => Err(truncated()),
    }
}

/// Calls `visit` with the position of every header of the directory.
fn walk(
    archive: &[u8],
    directory: Range<usize>,
    mut visit: impl FnMut(Range<usize>) -> Result<(), String>,
) -> Result<(), String> {
    let mut at = directory.start;
    while at < directory.end {
        let header = archive.get(at..directory.end).unwrap_or_default();
        let damaged = || format!("its zip directory is damaged at byte {at}");
        if !header.starts_with(CENTRAL) {
            return Err(damaged());
        }
        let lengths = [28, 30, 32].map(|field| u16_at(header, field).map(usize::from));
        let [Some(name), Some(extra), Some(comment)] = lengths else {
            return Err(damaged());
        };
        let end = at + CENTRAL_LEN + name + extra + comment;
        if end > directory.end {
            return Err(damaged());
        }
        visit(at..end)?;
        at = end;
    }
    Ok(())
}

/// The entry that a header of the directory describes.
fn entry(archive: &[u8], position: Range<usize>) -> Result<Entry, String> {
    let header = archive.get(position.clone()).unwrap_or_default();
    let short = |at| u16_at(header, at).unwrap_or_default();
    let long = |at| u64::from(u32_at(header, at).unwrap_or_default());
    let name_len = usize::from(short(28));
    let name = position.start + CENTRAL_LEN..position.start + CENTRAL_LEN + name_len;
    let shown = String::from_utf8_lossy(archive.get(name.clone()).unwrap_or_default());
    let damaged = || format!("the zip entry `{shown}` is damaged");
    let deflated = match short(10) {
        0 => false,
        8 => true,
        other => {
            return Err(format!(
                "the zip entry `{shown}` is compressed by method {other}; save it again without compression"
            ));
        }
    };
    if short(8) & 1 != 0 {
        return Err(format!("the zip entry `{shown}` is encrypted"));
    }
    let (mut packed, mut size, mut local) = (long(20), long(24), long(42));
    // Fields that do not fit stand in the extra field, in this order.
    let extra_start = CENTRAL_LEN + name_len;
    let extra = header.get(extra_start..extra_start + usize::from(short(30)));
    let mut wide = zip64_fields(extra.unwrap_or_default());
    for field in [&mut size, &mut packed, &mut local] {
        if *field == u64::from(u32::MAX)
            && let Some((value, rest)) = wide.split_first_chunk::<8>()
        {
            *field = u64::from_le_bytes(*value);
            wide = rest;
        }
    }
    let local = usize::try_from(local).map_err(|_| damaged())?;
    let head = archive.get(local..).unwrap_or_default();
    let (Some(name_len), Some(extra_len)) = (u16_at(head, 26), u16_at(head, 28)) else {
        return Err(damaged());
    };
    let start = local + LOCAL_LEN + usize::from(name_len) + usize::from(extra_len);
    let end = usize::try_from(packed)
        .ok()
        .and_then(|packed| start.checked_add(packed))
        .filter(|end| *end <= archive.len())
        .ok_or_else(damaged)?;
    let size = usize::try_from(size).map_err(|_| damaged())?;
    if !head.starts_with(LOCAL) || (!deflated && end - start != size) {
        return Err(damaged());
    }
    Ok(Entry {
        name,
        data: start..end,
        size,
        deflated,
    })
}

/// The zip64 part of an extra field; empty where there is none.
fn zip64_fields(mut extra: &[u8]) -> &[u8] {
    while let (Some(kind), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some((field, rest)) = extra[4..].split_at_checked(usize::from(length)) else {
            break;
        };
        if kind == 1 {
            return field;
        }
        extra = rest;
    }
    &[]
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}
