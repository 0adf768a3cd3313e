//! Choosing training rows: bounds on length and punctuation, deduplication, a cap, and a count of what each
//! dropped.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::data::{FilterReport, Reason};
use crate::{Conversation, Result, TextError};

/// Conditions a row must meet. Each looks at the row's text: the contents of its messages joined by a newline.
/// `None` and empty lists switch a condition off; [`Filter::default`] keeps everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Fewest characters (Unicode scalar values).
    pub min_chars: Option<usize>,
    /// Most characters.
    pub max_chars: Option<usize>,
    /// Fewest spaces (U+0020).
    pub min_spaces: Option<usize>,
    /// Beginnings that mark a row as a bare link, compared without regard to ASCII case.
    pub reject_prefixes: Vec<String>,
    /// Largest share of full stops among the characters, 0 to 1: more of them is a table of contents or a
    /// list.
    pub max_full_stops: Option<f64>,
    /// Rows whose first so many characters were seen before are duplicates.
    pub dedup_chars: Option<usize>,
    /// Rows whose whole conversation was seen before are duplicates, however their white space differs.
    pub dedup: bool,
    /// Keep at most so many rows.
    pub max_rows: Option<u64>,
}

impl Filter {
    /// The technical model card's filters: 50 to 400 characters, at least 8 spaces, no leading link, at most
    /// 10 % full stops, first-100-characters deduplication, at most 50,000 rows.
    pub fn technical() -> Self {
        Self {
            min_chars: Some(50),
            max_chars: Some(400),
            min_spaces: Some(8),
            reject_prefixes: ["http", "www", "ftp"].map(str::to_owned).into(),
            max_full_stops: Some(0.1),
            dedup_chars: Some(100),
            dedup: false,
            max_rows: Some(50_000),
        }
    }

    /// Checks that the conditions can be met at all.
    ///
    /// # Errors
    /// [`TextError::Option`] naming the value that cannot work.
    pub fn validate(&self) -> Result<()> {
        if let (Some(min), Some(max)) = (self.min_chars, self.max_chars)
            && min > max
        {
            return Err(TextError::Option(format!(
                "no text has at least {min} and at most {max} characters"
            )));
        }
        if let Some(share) = self.max_full_stops
            && !(0.0..=1.0).contains(&share)
        {
            return Err(TextError::Option(format!(
                "the share of full stops must lie between 0 and 1, not {share}"
            )));
        }
        if self.dedup_chars == Some(0) {
            return Err(TextError::Option(
                "comparing the first 0 characters makes every row a duplicate".to_owned(),
            ));
        }
        if self.max_rows == Some(0) {
            return Err(TextError::Option(
                "keeping at most 0 rows keeps nothing".to_owned(),
            ));
        }
        Ok(())
    }
}

/// A filter at work: remembers what it has seen and counts what it drops, in all and by source. Memory: eight
/// bytes for each row kept, if duplicates are looked for; sixteen if in both ways.
///
/// ```
/// use mor_text::data::{Filter, Reason, Selection};
/// use mor_text::{Conversation, Message, Role};
///
/// let row = Conversation {
///     messages: vec![Message::new(Role::User, "Hi"), Message::new(Role::Assistant, "Hello!")],
///     source: None,
///     licence: None,
/// };
/// let mut selection = Selection::new(Filter { dedup: true, ..Filter::default() })?;
/// assert_eq!(selection.admit(&row), Ok(()));
/// assert_eq!(selection.admit(&row), Err(Reason::Duplicate));
/// assert_eq!(selection.report().dropped(Reason::Duplicate), 1);
/// # Ok::<(), mor_text::TextError>(())
/// ```
#[derive(Debug)]
pub struct Selection {
    filter: Filter,
    /// Hashes of beginnings. A false match among millions of rows is unlikely and costs one row.
    seen: HashSet<u64>,
    report: FilterReport,
    /// Pieces of running text among the rows kept: the limit of rows is not about them.
    kept_text: u64,
    sources: BTreeMap<String, FilterReport>,
}

/// Sources counted one by one; past this many the rest are counted together, under no name.
const MAX_SOURCES: usize = 4096;
/// Names of fields that are not used, and the longest, in bytes.
const MAX_FIELDS: usize = 48;
const MAX_FIELD_NAME: usize = 64;

impl Selection {
    /// Starts with nothing seen.
    ///
    /// # Errors
    /// As [`Filter::validate`].
    pub fn new(filter: Filter) -> Result<Self> {
        filter.validate()?;
        Ok(Self {
            filter,
            seen: HashSet::new(),
            report: FilterReport::default(),
            kept_text: 0,
            sources: BTreeMap::new(),
        })
    }

    /// Counts `row` and says whether to keep it, or why not.
    pub fn admit(&mut self, row: &Conversation) -> Result<(), Reason> {
        self.admit_weighted(row, true)
    }

    /// As [`Selection::admit`], with what the weight of the row's file says: a row that it leaves out is
    /// counted so, unless it meets no condition anyway.
    pub fn admit_weighted(&mut self, row: &Conversation, drawn: bool) -> Result<(), Reason> {
        let verdict = self.judge(row, drawn);
        let source = row.source.as_deref().unwrap_or_default();
        self.count(source, |report| match verdict {
            Ok(()) => {
                report.kept += 1;
                report.kept_bytes += row.content_bytes() as u64;
            }
            Err(reason) => *report.dropped_mut(reason) += 1,
        });
        verdict
    }

    /// Counts a piece of a running text, which is kept if its file's weight takes it.
    pub fn count_text(&mut self, source: &str, bytes: usize, drawn: bool) {
        self.count(source, |report| {
            report.text_pieces += 1;
            if drawn {
                report.kept += 1;
                report.kept_bytes += bytes as u64;
            } else {
                report.weight += 1;
            }
        });
        self.kept_text += u64::from(drawn);
    }

    /// Counts a row of `source` that could not be read.
    pub fn count_malformed(&mut self, source: &str) {
        self.count(source, |report| report.malformed += 1);
    }

    /// Counts fields of a row that were not used.
    pub fn count_unused(&mut self, names: &[String]) {
        let unused = &mut self.report.unused;
        for name in names {
            let name = &name[..name.floor_char_boundary(MAX_FIELD_NAME)];
            let known = unused.len() < MAX_FIELDS || unused.contains_key(name);
            *unused
                .entry(if known { name } else { "" }.to_owned())
                .or_default() += 1;
        }
    }

    /// Counts a row in all and by source.
    fn count(&mut self, source: &str, count: impl Fn(&mut FilterReport)) {
        let known = self.sources.len() < MAX_SOURCES || self.sources.contains_key(source);
        let name = if known { source } else { "" };
        if !self.sources.contains_key(name) {
            self.sources
                .insert(name.to_owned(), FilterReport::default());
        }
        for report in [Some(&mut self.report), self.sources.get_mut(name)]
            .into_iter()
            .flatten()
        {
            report.rows += 1;
            count(report);
        }
    }

    /// The counts so far.
    pub fn report(&self) -> &FilterReport {
        &self.report
    }

    /// The counts so far of each source, by name.
    pub fn by_source(&self) -> &BTreeMap<String, FilterReport> {
        &self.sources
    }

    fn judge(&mut self, row: &Conversation, drawn: bool) -> Result<(), Reason> {
        if !row.has_answer() {
            return Err(Reason::Unanswered);
        }
        let filter = &self.filter;
        let contents: Vec<&str> = row
            .messages
            .iter()
            .map(|message| message.content.as_str())
            .collect();
        let text = contents.join("\n");
        let chars = text.chars().count();
        let count = |wanted: u8| text.bytes().filter(|&byte| byte == wanted).count();

        if filter.min_chars.is_some_and(|min| chars < min) {
            return Err(Reason::TooShort);
        }
        if filter.max_chars.is_some_and(|max| chars > max) {
            return Err(Reason::TooLong);
        }
        if filter.min_spaces.is_some_and(|min| count(b' ') < min) {
            return Err(Reason::FewSpaces);
        }
        if filter
            .reject_prefixes
            .iter()
            .any(|prefix| starts_with(&text, prefix))
        {
            return Err(Reason::Link);
        }
        if filter
            .max_full_stops
            .is_some_and(|share| count(b'.') as f64 > share * chars as f64)
        {
            return Err(Reason::FullStops);
        }
        // Looked up before the limit but entered after it, so that rows beyond the limit cost no memory.
        let beginning = filter.dedup_chars.map(|length| beginning(&text, length));
        let whole = filter.dedup.then(|| whole(row));
        let seen = |hash: Option<u64>| hash.is_some_and(|hash| self.seen.contains(&hash));
        if seen(beginning) || seen(whole) {
            return Err(Reason::Duplicate);
        }
        if !drawn {
            return Err(Reason::Weight);
        }
        if filter
            .max_rows
            .is_some_and(|max| self.report.kept - self.kept_text >= max)
        {
            return Err(Reason::Surplus);
        }
        self.seen.extend(beginning);
        self.seen.extend(whole);
        Ok(())
    }
}

fn starts_with(text: &str, prefix: &str) -> bool {
    let start = text.trim_start().as_bytes().get(..prefix.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// A hash of the first `chars` characters.
fn beginning(text: &str, chars: usize) -> u64 {
    let end = text
        .char_indices()
        .nth(chars)
        .map_or(text.len(), |(at, _)| at);
    // Fixed keys: the same input gives the same rows on every run.
    let mut hasher = DefaultHasher::new();
    text[..end].hash(&mut hasher);
    hasher.finish()
}

/// A hash of roles and contents, each run of white space as one space.
fn whole(row: &Conversation) -> u64 {
    let mut hasher = DefaultHasher::new();
    for message in &row.messages {
        message.role.hash(&mut hasher);
        for word in message.content.split_whitespace() {
            word.hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, Role};

    fn row(user: &str, assistant: &str) -> Conversation {
        Conversation {
            messages: vec![
                Message::new(Role::User, user),
                Message::new(Role::Assistant, assistant),
            ],
            ..Conversation::default()
        }
    }

    /// A question and answer of `chars` characters in all, with plenty of spaces.
    fn sized(chars: usize) -> Conversation {
        let question = "a b c d e f g h i j";
        row(question, &"é".repeat(chars - question.len() - 1))
    }

    #[test]
    fn technical_preset_at_its_bounds() {
        let verdict = |row: &Conversation| Selection::new(Filter::technical()).unwrap().admit(row);
        assert_eq!(verdict(&sized(49)), Err(Reason::TooShort));
        assert_eq!(verdict(&sized(50)), Ok(()));
        assert_eq!(verdict(&sized(400)), Ok(()));
        assert_eq!(verdict(&sized(401)), Err(Reason::TooLong));

        let long = "x".repeat(50);
        assert_eq!(
            verdict(&row("1 2 3 4 5 6 7 8", &long)),
            Err(Reason::FewSpaces)
        );
        assert_eq!(verdict(&row("1 2 3 4 5 6 7 8 ", &long)), Ok(()));
        for link in ["http://a.b", "HTTPS://a.b", "www.a.b", " ftp://a"] {
            assert_eq!(
                verdict(&row(&format!("{link} 1 2 3 4 5 6 7 8 9"), &long)),
                Err(Reason::Link),
                "{link}"
            );
        }
        // 10 % full stops are allowed, more are not.
        let letters = format!("1 2 3 4 5 6 7 8 {}", "x".repeat(73));
        assert_eq!(verdict(&row(&letters, &".".repeat(10))), Ok(()));
        assert_eq!(
            verdict(&row(&letters[1..], &".".repeat(11))),
            Err(Reason::FullStops)
        );
    }

    #[test]
    fn duplicates_and_limit() {
        let filter = Filter {
            dedup_chars: Some(5),
            max_rows: Some(2),
            ..Filter::default()
        };
        let mut selection = Selection::new(filter).unwrap();
        assert_eq!(selection.admit(&row("abcdé", "1")), Ok(()));
        assert_eq!(selection.admit(&row("abcdéf", "2")), Err(Reason::Duplicate));
        assert_eq!(selection.admit(&row("abcdf", "3")), Ok(()));
        assert_eq!(selection.admit(&row("b", "4")), Err(Reason::Surplus));
        let report = selection.report();
        assert_eq!(
            (report.rows, report.kept, report.duplicate, report.surplus),
            (4, 2, 1, 1)
        );
        assert_eq!(
            Reason::ALL
                .iter()
                .map(|&reason| report.dropped(reason))
                .sum::<u64>(),
            2
        );
    }

    #[test]
    fn whole_conversations_are_duplicates_whatever_their_white_space() {
        let filter = Filter {
            dedup: true,
            ..Filter::default()
        };
        let mut selection = Selection::new(filter).unwrap();
        assert_eq!(selection.admit(&row("a b", "c")), Ok(()));
        assert_eq!(
            selection.admit(&row(" a\n\tb", "c ")),
            Err(Reason::Duplicate)
        );
        assert_eq!(
            selection.admit(&row("a", "b c")),
            Ok(()),
            "who says what counts"
        );
        assert_eq!(selection.admit(&row("a b", "C")), Ok(()));
        assert_eq!(
            selection.admit_weighted(&row("a b", "d"), false),
            Err(Reason::Weight)
        );
        assert_eq!(
            selection.admit(&row("a b", "d")),
            Ok(()),
            "what was left out is not seen"
        );
    }

    #[test]
    fn rows_without_answers_are_dropped_and_sources_counted() {
        let mut selection = Selection::new(Filter::default()).unwrap();
        let mut unanswered = row("q", " \n");
        assert_eq!(selection.admit(&unanswered), Err(Reason::Unanswered));
        unanswered.messages.pop();
        unanswered.source = Some("s".to_owned());
        assert_eq!(selection.admit(&unanswered), Err(Reason::Unanswered));
        assert_eq!(selection.admit(&row("q", "a")), Ok(()));
        let of = |name: &str| {
            let report = &selection.by_source()[name];
            (report.rows, report.kept, report.unanswered)
        };
        assert_eq!((of(""), of("s")), ((2, 1, 1), (1, 0, 1)));
        assert_eq!(selection.report().unanswered, 2);
    }

    #[test]
    fn impossible_conditions_are_refused() {
        for filter in [
            Filter {
                min_chars: Some(2),
                max_chars: Some(1),
                ..Filter::default()
            },
            Filter {
                max_full_stops: Some(1.5),
                ..Filter::default()
            },
            Filter {
                max_full_stops: Some(f64::NAN),
                ..Filter::default()
            },
            Filter {
                dedup_chars: Some(0),
                ..Filter::default()
            },
            Filter {
                max_rows: Some(0),
                ..Filter::default()
            },
        ] {
            assert!(filter.validate().is_err(), "{filter:?}");
        }
    }
}
