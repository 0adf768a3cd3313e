//! Dataset files as they lie on disk: plain, gzip or zstd, told apart by their first bytes.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Error, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use super::gzip::{Gzip, skip_zeros};
use crate::{Result, TextError};

/// How much of a file's content is looked at to tell its format.
const HEAD_BYTES: u64 = 64 << 10;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of any number of members, with zeros after each or none.
    Gzip,
    /// Zstandard, of any number of frames, with windows up to 100 MiB.
    Zstd,
}

impl Compression {
    fn of(head: &[u8]) -> Self {
        match head {
            [0x1F, 0x8B, 8, ..] => Self::Gzip,
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Self::Zstd,
            // A skippable frame, as pzstd writes first.
            [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Its name, or nothing.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// A buffered file, decompressed while it is read.
pub struct FileReader {
    reader: BufReader<Box<dyn Read + Send>>,
    compression: Compression,
    count: Arc<AtomicU64>,
}

impl FileReader {
    /// Opens a file and returns it with the beginning of its content.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<u8>)> {
        Self::try_open(path).map_err(|cause| TextError::io(path, cause))
    }

    fn try_open(path: &Path) -> std::io::Result<(Self, Vec<u8>)> {
        let count = Arc::new(AtomicU64::new(0));
        let mut file = BufReader::with_capacity(
            1 << 16,
            Counted {
                file: File::open(path)?,
                count: count.clone(),
            },
        );
        let compression = Compression::of(file.fill_buf()?);
        let mut content: Box<dyn Read + Send> = match compression {
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(Gzip::new(file)),
            Compression::Zstd => Box::new(Zstd::new(file)),
        };
        let mut head = Vec::new();
        content.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
        let content = Cursor::new(head.clone()).chain(content);
        let reader = Self {
            reader: BufReader::with_capacity(1 << 18, Box::new(content)),
            compression,
            count,
        };
        Ok((reader, head))
    }

    /// How the file is compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Counts the bytes read from the disk, also after the reader has gone elsewhere.
    pub(super) fn counter(&self) -> Arc<AtomicU64> {
        self.count.clone()
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl BufRead for FileReader {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader")
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}

/// A file that counts what is read from it.
struct Counted {
    file: File,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The frames of a Zstandard file one after another, which its decoder takes one at a time.
struct Zstd<R> {
    input: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            decoder: FrameDecoder::new(),
            in_frame: false,
        }
    }

    /// Begins the next frame with content; false at the end of the file. Zeros between frames are passed over.
    fn begin(&mut self) -> std::io::Result<bool> {
        while skip_zeros(&mut self.input)?.is_some() {
            match self.decoder.reset(&mut self.input) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let frame = &mut self.input.by_ref().take(u64::from(length));
                    std::io::copy(frame, &mut std::io::sink())?;
                }
                Err(error) => return Err(damaged(&error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBlocks;
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.begin()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.input, UptoBlocks(1))
                    .map_err(|error| damaged(&error))?;
            }
            match self.decoder.read(buffer)? {
                0 => self.in_frame = false,
                count => return Ok(count),
            }
        }
    }
}

fn damaged(error: &FrameDecoderError) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("not readable as zstd: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// What a file of these bytes holds, how it is compressed and how many bytes were read.
    fn read(bytes: &[u8]) -> std::io::Result<(Vec<u8>, Compression)> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), bytes)?;
        let (mut reader, head) = FileReader::try_open(file.path())?;
        let counter = reader.counter();
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        assert_eq!(head, content[..content.len().min(HEAD_BYTES as usize)]);
        assert_eq!(counter.load(Ordering::Relaxed), bytes.len() as u64);
        Ok((content, reader.compression()))
    }

    #[test]
    fn every_compression_gives_the_same_bytes() {
        let text: Vec<u8> = (0..200_000u32)
            .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
            .collect();
        let skippable = [
            &[0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 9, 9][..],
            &zstd(&text),
        ]
        .concat();
        for (bytes, compression) in [
            (text.clone(), Compression::None),
            (gzip(&text), Compression::Gzip),
            (zstd(&text), Compression::Zstd),
            (skippable, Compression::Zstd),
        ] {
            assert_eq!(read(&bytes).unwrap(), (text.clone(), compression));
            if compression != Compression::None {
                // Files that were appended to one another.
                let twice = [&bytes[..], &bytes].concat();
                assert_eq!(read(&twice).unwrap().0, [&text[..], &text].concat());
                // Zeros that a block device or an archive was filled up with, also between two of them.
                let padded = [&bytes[..], &[0; 70_000], &bytes, &[0; 513]].concat();
                assert_eq!(read(&padded).unwrap().0, [&text[..], &text].concat());
                let followed = [&bytes[..], b"\0\0text"].concat();
                assert!(read(&followed).is_err());
            }
        }
        assert_eq!(read(b"").unwrap(), (vec![], Compression::None));
        assert_eq!(read(&zstd(b"")).unwrap().0, b"");
    }

    #[test]
    fn damaged_files_give_errors() {
        let text: Vec<u8> = (0..50_000u32)
            .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
            .collect();
        for bytes in [gzip(&text), zstd(&text)] {
            for length in [5, 20, bytes.len() / 2, bytes.len() - 1] {
                assert!(read(&bytes[..length]).is_err(), "{length}");
            }
            for at in (4..bytes.len()).step_by(bytes.len() / 97) {
                let mut bytes = bytes.clone();
                bytes[at] ^= 0x55;
                // Whatever comes of it, it is no panic.
                let _ = read(&bytes).is_err();
            }
        }
    }
}
