//! What a dataset file is, told by its first bytes.

use std::path::Path;

use super::columns::{Columns, Header};
use super::lines::without_marks;

/// The formats of a dataset file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON objects, one conversation each, of any [`crate::data::Schema`]: one a line, the elements of an
    /// array, or one after another.
    Chat,
    /// A table, CSV or TSV, whose header names a question and an answer.
    Table,
    /// Plain text.
    Text,
}

/// How the rows of a [`Format::Chat`] file follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// JSON lines: a row ends with its line.
    Lines,
    /// The elements of one JSON array.
    Array,
    /// JSON objects of several lines each.
    Objects,
}

/// Keys by which a row is known.
const KEYS: [&str; 8] = [
    "\"messages\"",
    "\"conversations\"",
    "\"conversation\"",
    "\"data\"",
    "\"chosen\"",
    "\"instruction\"",
    "\"question\"",
    "\"prompt\"",
];

impl Format {
    /// Decides by `head`, the file's beginning: JSON objects, or an array of them, are rows; a header that names a
    /// question and an answer, with a second record of as many columns, begins a table; and all else is text.
    /// Only where that leaves a doubt the name's extension decides: nothing or broken rows in a `.json`,
    /// `.jsonl` or `.ndjson` file are rows, objects without a known key in a `.txt`, `.text` or `.md` file are
    /// text, and a `.csv`, `.tsv` or `.tab` file is a table whatever its columns.
    pub fn of(path: &Path, head: &[u8]) -> Self {
        Self::with_columns(path, head, None)
    }

    /// As [`Format::of`], of a table by the columns given, if there are any.
    pub(super) fn with_columns(path: &Path, head: &[u8], columns: Option<&Columns>) -> Self {
        let extension = extension(path);
        let json = matches!(extension.as_deref(), Some("json" | "jsonl" | "ndjson"));
        let text = matches!(extension.as_deref(), Some("txt" | "text" | "md"));
        let holds = |key: &str| head.windows(key.len()).any(|at| at == key.as_bytes());
        let chat = if json {
            true
        } else if text {
            opens_row(head) && KEYS.iter().any(|key| holds(key))
        } else {
            opens_row(head)
        };
        // A .jsonl file of prose would be read as nothing but errors, and they say what is wrong with it.
        if chat {
            return Self::Chat;
        }
        let certain = is_table(path) && !trim(head).is_empty();
        if certain || Header::find(head, columns, false).is_some() {
            Self::Table
        } else {
            Self::Text
        }
    }
}

/// Whether a file is a table by its name.
pub(super) fn is_table(path: &Path) -> bool {
    matches!(extension(path).as_deref(), Some("csv" | "tsv" | "tab"))
}

impl Layout {
    /// Decides by the beginning of a file of rows.
    pub(super) fn of(head: &[u8]) -> Self {
        let head = trim(head);
        match head.first() {
            Some(b'[') => return Self::Array,
            Some(b'{') => {}
            _ => return Self::Lines,
        }
        // A row that does not end with its line may be broken: then the next one begins another row.
        let mut lines = head.split(|&byte| byte == b'\n');
        let whole = lines.next().is_none_or(is_whole);
        let next = lines.find(|line| !line.trim_ascii().is_empty());
        if whole || next.is_none_or(|line| without_marks(line).starts_with(b"{")) {
            Self::Lines
        } else {
            Self::Objects
        }
    }

    /// The layout in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Lines => "JSON lines",
            Self::Array => "a JSON array",
            Self::Objects => "JSON objects",
        }
    }
}

/// The extension in lower case, after that of a compression.
fn extension(path: &Path) -> Option<String> {
    let of = |path: &Path| Some(path.extension()?.to_str()?.to_ascii_lowercase());
    match of(path)?.as_str() {
        "gz" | "zst" => of(&path.with_extension("")),
        other => Some(other.to_owned()),
    }
}

/// The name of a file without folder and extensions: the source of rows that name none.
#[cfg(feature = "fs")]
pub(super) fn stem(path: &Path) -> String {
    let name = match path.extension().and_then(|it| it.to_str()) {
        Some("gz" | "zst") => path.with_extension(""),
        _ => path.to_owned(),
    };
    let stem = name.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// Whether a JSON object begins here, or an array of them.
pub(super) fn opens_row(head: &[u8]) -> bool {
    let head = trim(head);
    let head = trim(head.strip_prefix(b"[").unwrap_or(head));
    let Some(key) = head.strip_prefix(b"{").map(<[u8]>::trim_ascii_start) else {
        return false;
    };
    let Some(key) = key.strip_prefix(b"\"") else {
        return false;
    };
    // The head may end within the key.
    let Some(end) = key.iter().position(|&byte| byte == b'"') else {
        return !key.contains(&b'\n');
    };
    matches!(key[end + 1..].trim_ascii_start().first(), Some(b':') | None)
}

/// Without byte-order marks and leading white space.
fn trim(mut head: &[u8]) -> &[u8] {
    loop {
        let rest = without_marks(head).trim_ascii_start();
        if rest.len() == head.len() {
            return rest;
        }
        head = rest;
    }
}

/// Whether every bracket on a line is closed.
fn is_whole(line: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0i64, false, false);
    for &byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
    }
    depth <= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_and_the_extension_only_where_it_leaves_a_doubt() {
        let of = |name: &str, head: &[u8]| Format::of(Path::new(name), head);
        for rows in [
            &b"{\"messages\": []}"[..],
            b"\xEF\xBB\xBF\r\n { \"messages\"",
            b"[\n  {\n    \"instruction\" : \"\"",
            b"[{\"conversations\":[",
            b"{\"id\": 1, \"data\": [",
        ] {
            for name in ["a", "a.bin", "a.txt", "a.md", "a.jsonl", "a.txt.gz"] {
                assert_eq!(of(name, rows), Format::Chat, "{name}");
            }
        }
        for text in [
            &b"text"[..],
            b"",
            b"{}",
            b"[link](https://a)",
            b"[1] A note",
            b"{ x }",
            b"{\"quoted\" words",
            b"\"messages\"",
        ] {
            for name in ["a", "a.log", "a.txt", "a.md.zst"] {
                assert_eq!(of(name, text), Format::Text, "{text:?}");
            }
            for name in ["a.JSONL", "a.json", "a.ndjson.gz"] {
                assert_eq!(of(name, text), Format::Chat, "{text:?}");
            }
        }
        for table in [
            &b"question,answer\nq,a\n"[..],
            b"\xEF\xBB\xBFsep=;\r\n\"Frage\";\"Antwort\"\r\nq;\"a;\nb\"\r\n",
            b"id\tinstruction\toutput\n1\tq\ta",
        ] {
            for name in ["a", "a.txt", "a.md.gz", "a.csv", "a.tsv.zst"] {
                assert_eq!(of(name, table), Format::Table, "{name}");
            }
        }
        for prose in [
            &b"Question, answer: the two belong together.\nAs always, one, and two.\n"[..],
            b"question,answer\n",
            b"Question, answer and more\n\nWell, yes.",
            b"One thing, another,\nand a third, the last.\n",
            b"name,age\nBob,3\n",
        ] {
            for name in ["a", "a.txt", "a.log"] {
                assert_eq!(of(name, prose), Format::Text, "{name}");
            }
            assert_eq!(of("a.CSV", prose), Format::Table);
        }
        assert_eq!(of("a.csv", b"\n"), Format::Text);
        assert_eq!(of("a.csv", b"{\"messages\": 1}"), Format::Chat);
        assert_eq!(of("a.md", b"{\"name\": 1}"), Format::Text);
        assert_eq!(of("a", b"{\"name\": 1}"), Format::Chat);
    }

    #[test]
    fn layouts() {
        for (head, layout) in [
            ("", Layout::Lines),
            ("{\"a\":\"}\\\"{\"}\n{", Layout::Lines),
            ("{\"a\":[", Layout::Lines),
            ("{\"broken\n\n{\"a\":1}\n", Layout::Lines),
            ("\u{FEFF}\n [\n{", Layout::Array),
            ("\u{FEFF}\u{FEFF}\n\u{FEFF}[\n{", Layout::Array),
            ("{\"broken\n\u{FEFF}{\"a\":1}\n", Layout::Lines),
            ("{\r\n  \"a\": 1\r\n}", Layout::Objects),
            ("{\"a\": [\n{\"b\"", Layout::Lines),
            ("{\"a\": [\n  {\"b\"", Layout::Objects),
        ] {
            assert_eq!(Layout::of(head.as_bytes()), layout, "{head}");
        }
    }

    #[cfg(feature = "fs")]
    #[test]
    fn stems() {
        for (name, expected) in [
            ("d/a.b.jsonl.gz", "a.b"),
            ("a.zst", "a"),
            ("a", "a"),
            ("", ""),
        ] {
            assert_eq!(stem(Path::new(name)), expected);
        }
    }
}
