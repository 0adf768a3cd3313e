//! Readers for datasets, one item at a time in bounded memory, the filters that choose among their rows, and
//! the rules that reword some.
//!
//! What a file is, its content decides: gzip, zstd or plain; JSON lines, a JSON array, JSON objects, a table or text;
//! and of each JSON row, which [`Schema`] it has. What is evidently something else is refused by name.

mod columns;
#[cfg(feature = "fs")]
mod documents;
#[cfg(feature = "fs")]
mod draw;
mod elements;
mod filter;
#[cfg(feature = "fs")]
mod folder;
mod format;
#[cfg(feature = "fs")]
mod gzip;
#[cfg(feature = "fs")]
mod input;
mod lines;
#[cfg(feature = "fs")]
mod pieces;
mod reader;
mod report;
#[cfg(feature = "fs")]
mod rewrite;
#[cfg(feature = "fs")]
mod rows;
mod schema;
#[cfg(feature = "fs")]
mod signature;
mod table;

pub use columns::Columns;
#[cfg(feature = "fs")]
pub use documents::{Document, Documents, TextPiece};
#[cfg(feature = "fs")]
pub use draw::{is_held_out, times_taken};
pub use filter::{Filter, Selection};
#[cfg(feature = "fs")]
pub use folder::{FolderContents, Inputs, expand};
pub use format::{Format, Layout};
#[cfg(feature = "fs")]
pub use input::{Compression, FileReader};
pub use lines::MAX_LINE_BYTES;
pub use reader::{ChatReader, TextReader};
pub use report::{FilterReport, Reason};
#[cfg(feature = "fs")]
pub use rewrite::Rewrites;
#[cfg(feature = "fs")]
pub use rows::Rows;
pub use schema::Schema;
pub use table::TableReader;
