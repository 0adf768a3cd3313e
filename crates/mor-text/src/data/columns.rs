//! Which columns of a table hold question and answer, by its header.

use std::str::FromStr;

use super::lines::without_marks;
use super::schema::{ANSWERS, EXTRAS, QUESTIONS, SYSTEMS, shown};

/// Columns that are named by whoever reads a table: `user=Frage,assistant=Antwort`, and `system=…` if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    user: String,
    assistant: String,
    system: Option<String>,
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut user, mut assistant, mut system) = (None, None, None);
        for part in text.split(',') {
            let Some((role, name)) = part.split_once('=') else {
                return Err(format!("{part:?} is no ROLE=COLUMN, as in user=Question"));
            };
            let column = match role.trim() {
                "user" => &mut user,
                "assistant" => &mut assistant,
                "system" => &mut system,
                other => {
                    return Err(format!(
                        "{other:?} is no role: expected user, assistant or system"
                    ));
                }
            };
            let name = name.trim();
            if name.is_empty() || column.replace(name.to_owned()).is_some() {
                return Err(format!("`{}` wants one column", role.trim()));
            }
        }
        match (user, assistant) {
            (Some(user), Some(assistant)) => Ok(Self {
                user,
                assistant,
                system,
            }),
            _ => Err("name both, as in user=Question,assistant=Answer".to_owned()),
        }
    }
}

/// The first record of a table, and what its columns are used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) delimiter: u8,
    pub(super) names: Vec<String>,
    /// The key of a JSON row that each column stands for, if it is used.
    pub(super) keys: Vec<Option<&'static str>>,
}

/// Longest name of a column in a file that is not known to be a table.
const LONGEST_NAME: usize = 64;

impl Header {
    /// The header of a file with this beginning, if its columns have names that are known, or are those given. With
    /// `certain`, the file is known to be a table; else it must be seen: by no other columns than those with
    /// short names of their own, and by a second record of as many.
    pub(super) fn find(head: &[u8], columns: Option<&Columns>, certain: bool) -> Option<Self> {
        let text = beginning(head);
        // A delimiter that divides nothing need not be tried.
        let mut candidates = DELIMITERS
            .into_iter()
            .filter(|&delimiter| divides(text, delimiter));
        candidates.find_map(|delimiter| {
            let mut records = records(text, delimiter);
            let header = Self::new(delimiter, records.next()?, columns)?;
            let second = records.next();
            let is_seen = header.is_plausible()
                && second.is_some_and(|record| record.len() == header.names.len());
            (certain || is_seen).then_some(header)
        })
    }

    /// A record as a header, if its columns can be used.
    pub(super) fn new(
        delimiter: u8,
        names: Vec<String>,
        columns: Option<&Columns>,
    ) -> Option<Self> {
        let mut keys = vec![None; names.len()];
        let plain: Vec<String> = names
            .iter()
            .map(|name| name.trim().to_lowercase())
            .collect();
        let place = |wanted: &str| {
            plain
                .iter()
                .position(|name| *name == wanted.trim().to_lowercase())
        };
        let first =
            |names: &[&'static str]| names.iter().find_map(|&name| Some((place(name)?, name)));
        if let Some(columns) = columns {
            keys[place(&columns.user)?] = Some("question");
            keys[place(&columns.assistant)?] = Some("answer");
            if let Some(system) = &columns.system {
                keys[place(system)?] = Some("system");
            }
        } else {
            let question = first(&QUESTIONS)?;
            let answer = first(&ANSWERS).or_else(|| first(&["chosen"]))?;
            for (at, key) in [question, answer].into_iter().chain(first(&SYSTEMS)) {
                keys[at] = Some(key);
            }
            for extra in EXTRAS {
                if let Some(at) = place(extra) {
                    keys[at] = Some(extra);
                }
            }
        }
        for name in ["source", "licence", "license"] {
            if let Some(at) = place(name).filter(|&at| keys[at].is_none()) {
                keys[at] = Some(name);
            }
        }
        Some(Self {
            delimiter,
            names,
            keys,
        })
    }

    fn is_plausible(&self) -> bool {
        let mut names: Vec<_> = self.names.iter().map(|name| name.trim()).collect();
        names.sort_unstable();
        let fits =
            |name: &&str| !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains('\n');
        names.iter().all(fits) && names.windows(2).all(|pair| pair[0] != pair[1])
    }

    /// The name of the column that stands for a question or an answer.
    pub(super) fn name_of(&self, names: &[&str]) -> String {
        let at = self
            .keys
            .iter()
            .position(|key| key.is_some_and(|key| names.contains(&key)));
        shown(at.map_or("", |at| self.names[at].trim()))
    }
}

/// Most columns of a table.
pub(super) const MAX_COLUMNS: usize = 4096;

/// What separates columns; where several would do, the first.
const DELIMITERS: [u8; 4] = *b",;\t|";

/// Every column of a table whose columns cannot be used, as its delimiter likely divides them.
pub(super) fn names(head: &[u8]) -> Vec<String> {
    let text = beginning(head);
    let of = |delimiter| records(text, delimiter).next().unwrap_or_default();
    let longest = DELIMITERS.into_iter().map(of).reduce(|longest, other| {
        if other.len() > longest.len() {
            other
        } else {
            longest
        }
    });
    longest.unwrap_or_default()
}

/// Names in words, for an error.
pub(super) fn list(names: &[String]) -> String {
    const MOST: usize = 12;
    let mut shown: Vec<String> = names
        .iter()
        .take(MOST)
        .map(|name| shown(name.trim()))
        .collect();
    if names.len() > MOST {
        shown.push(format!("{} more", names.len() - MOST));
    }
    shown.join(", ")
}

/// Whether a line is what Excel writes first to tell the delimiter.
pub(super) fn is_hint(line: &str) -> bool {
    let line = line.trim_end();
    line.len() == 5 && line.as_bytes()[..4].eq_ignore_ascii_case(b"sep=")
}

/// The part of `head` from the header on.
fn beginning(head: &[u8]) -> &[u8] {
    let mut rest = without_marks(head).trim_ascii_start();
    if let Some(end) = rest.iter().position(|&byte| byte == b'\n')
        && std::str::from_utf8(&rest[..end]).is_ok_and(is_hint)
    {
        rest = rest[end..].trim_ascii_start();
    }
    rest
}

/// Whether a delimiter occurs in the first record of a text, as far as its first line tells.
fn divides(text: &[u8], delimiter: u8) -> bool {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let end = text.iter().position(is_break).unwrap_or(text.len());
    let line = &text[..end];
    line.contains(&delimiter) || line.contains(&b'"')
}

/// The records of a text, as far as they go.
fn records(text: &[u8], delimiter: u8) -> impl Iterator<Item = Vec<String>> + '_ {
    let mut parser = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
    let mut fields = vec![0; text.len() + 1];
    let mut ends = vec![0; text.len().min(MAX_COLUMNS) + 1];
    let mut at = 0;
    std::iter::from_fn(move || {
        let (mut written, mut found) = (0, 0);
        loop {
            let (result, read, out, count) =
                parser.read_record(&text[at..], &mut fields[written..], &mut ends[found..]);
            (at, written, found) = (at + read, written + out, found + count);
            match result {
                // The end of the text, which is told by reading nothing.
                csv_core::ReadRecordResult::InputEmpty if at == text.len() => {}
                csv_core::ReadRecordResult::Record => break,
                _ => return None,
            }
        }
        let starts = std::iter::once(0).chain(ends[..found].iter().copied());
        let fields = starts.zip(&ends[..found]).map(|(start, &end)| {
            String::from_utf8_lossy(fields.get(start..end).unwrap_or_default()).into_owned()
        });
        Some(fields.collect())
    })
}
