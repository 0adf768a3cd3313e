//! gzip files of any number of members.

use std::io::{BufRead, Error, ErrorKind, Read};

use flate2::bufread::GzDecoder;

/// The members of a gzip file one after another. Zeros may follow each, as tapes and disk images pad with; what
/// else follows is an error.
pub(super) struct Gzip<R> {
    /// Absent only while one member gives way to the next, and after an error.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            member: Some(GzDecoder::new(input)),
        }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            match member.read(buffer)? {
                0 => {}
                count => return Ok(count),
            }
            self.member = match self.member.take() {
                Some(member) => next(member.into_inner())?,
                None => None,
            };
        }
        Ok(0)
    }
}

/// The member that follows, unless the file ends.
fn next<R: BufRead>(mut input: R) -> std::io::Result<Option<GzDecoder<R>>> {
    match skip_zeros(&mut input)? {
        None => Ok(None),
        Some(0x1F) => Ok(Some(GzDecoder::new(input))),
        Some(_) => Err(Error::new(
            ErrorKind::InvalidData,
            "something that is not gzip follows what is; cut it off",
        )),
    }
}

/// Goes past zeros, and returns the byte that follows them.
pub(super) fn skip_zeros(input: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(None);
        }
        let zeros = chunk.iter().take_while(|&&byte| byte == 0).count();
        let found = chunk.get(zeros).copied();
        input.consume(zeros);
        if found.is_some() {
            return Ok(found);
        }
    }
}
