//! Readers for datasets, chat JSON lines and plain text, one item at a time in bounded memory, the filters that
//! choose among their rows, and the rules that reword some.

#[cfg(feature = "fs")]
mod documents;
mod filter;
mod lines;
#[cfg(feature = "fs")]
mod pieces;
mod reader;
#[cfg(feature = "fs")]
mod rewrite;
#[cfg(feature = "fs")]
mod rows;

#[cfg(feature = "fs")]
pub use documents::{Document, Documents, TextPiece};
pub use filter::{Filter, FilterReport, Reason, Selection};
pub use lines::MAX_LINE_BYTES;
#[cfg(feature = "fs")]
pub use reader::FileReader;
pub use reader::{ChatReader, Format, TextReader};
#[cfg(feature = "fs")]
pub use rewrite::Rewrites;
#[cfg(feature = "fs")]
pub use rows::Rows;
