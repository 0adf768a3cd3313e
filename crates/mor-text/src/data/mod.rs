//! Readers for datasets: chat JSON lines and plain text, one item at a time in bounded memory.

mod lines;
mod reader;

pub use lines::MAX_LINE_BYTES;
#[cfg(feature = "fs")]
pub use reader::FileReader;
pub use reader::{ChatReader, Format, TextReader};
