//! CSV and TSV: a question and an answer in each record.

use std::collections::VecDeque;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use csv_core::ReadRecordResult;
use serde_json::{Map, Value};

use super::columns::{self, Columns, Header, MAX_COLUMNS, is_hint};
use super::format::is_table;
use super::lines::{Lines, MAX_LINE_BYTES};
use super::schema::{ANSWERS, QUESTIONS, Schema, conversation};
use crate::{Conversation, Result, TextError};

/// How often reading starts again after a quote that is never closed, at the line after it: each time the rest of the
/// file may have to be read anew.
const MAX_RETRIES: u32 = 16;

/// What a line costs in memory beside its bytes.
const LINE_COST: usize = 64;

/// Conversations of the records of a table. Empty lines, records whose fields are all blank, and the header where it
/// comes again are skipped. A record without a question, or with another number of fields than the header, is malformed.
#[derive(Debug)]
pub struct TableReader<R> {
    lines: Lines<R>,
    path: PathBuf,
    header: Header,
    parser: csv_core::Reader,
    /// The line that is being parsed, with its end, and how far it is.
    line: Vec<u8>,
    at: usize,
    /// Lines that are to be read again, with their numbers.
    again: VecDeque<(u64, Vec<u8>)>,
    /// The lines of the current record after its first.
    taken: Vec<(u64, Vec<u8>)>,
    taken_bytes: usize,
    retries: u32,
    /// The line on which the current record began, and the one read last.
    number: u64,
    last: u64,
    schema: Option<Schema>,
    unused: Vec<String>,
    ended: bool,
}

impl<R: BufRead> TableReader<R> {
    /// Reads from `input`, whose header names a question and an answer, or has the `columns` given; `path` is
    /// for error messages.
    ///
    /// # Errors
    /// [`TextError::Unusable`] naming the columns, if there are no such.
    pub fn new(mut input: R, path: &Path, columns: Option<&Columns>) -> Result<Self> {
        let head = loop {
            match input.fill_buf() {
                Ok(head) => break head,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TextError::io(path, error)),
            }
        };
        let Some(header) = Header::find(head, columns, true) else {
            return Err(unusable(path, head, columns));
        };
        let mut reader = Self {
            lines: Lines::new(input, path),
            path: path.to_owned(),
            parser: csv_core::ReaderBuilder::new()
                .delimiter(header.delimiter)
                .build(),
            header,
            line: Vec::new(),
            at: 0,
            again: VecDeque::new(),
            taken: Vec::new(),
            taken_bytes: 0,
            retries: 0,
            number: 0,
            last: 0,
            schema: None,
            unused: Vec::new(),
            ended: false,
        };
        // Past the header, which was read from the same bytes.
        reader.record()?;
        Ok(reader)
    }

    /// The line on which the item yielded last begins, counted from 1.
    pub fn line(&self) -> u64 {
        self.number
    }

    /// Which shape of a row the columns are.
    pub fn schema(&self) -> Option<Schema> {
        self.schema
    }

    /// Columns of the record yielded last that were not used, though they are not blank.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// What the columns are called.
    pub fn columns(&self) -> String {
        columns::list(&self.header.names)
    }

    fn malformed(&self, reason: String) -> TextError {
        TextError::Malformed {
            path: self.path.clone(),
            line: self.number,
            reason,
        }
    }

    fn read(&mut self) -> Result<Option<Conversation>> {
        loop {
            let Some(fields) = self.record()? else {
                return Ok(None);
            };
            let is_blank = fields.iter().all(|field| field.trim().is_empty());
            // Where files were put together, their header comes again.
            if !is_blank && fields != self.header.names {
                return self.row(fields).map(Some);
            }
        }
    }

    /// The conversation of a record.
    fn row(&mut self, fields: Vec<String>) -> Result<Conversation> {
        let expected = self.header.names.len();
        if fields.len() != expected {
            let found = fields.len();
            return Err(self.malformed(format!("it has {found} fields, but the header {expected}")));
        }
        let mut row = Map::new();
        self.unused.clear();
        for (at, field) in fields.into_iter().enumerate() {
            let is_blank = field.trim().is_empty();
            match self.header.keys[at] {
                // A blank field is an absent one; a row without an answer is counted as such.
                Some(key) if !is_blank || ANSWERS.contains(&key) || key == "chosen" => {
                    row.insert(key.to_owned(), Value::String(field));
                }
                None if !is_blank => self.unused.push(self.header.names[at].trim().to_owned()),
                _ => {}
            }
        }
        if !QUESTIONS.iter().any(|key| row.contains_key(*key)) {
            let column = self.header.name_of(&QUESTIONS);
            return Err(self.malformed(format!("no question: the column {column} is blank")));
        }
        let row = conversation(Value::Object(row)).map_err(|reason| self.malformed(reason))?;
        self.schema = Some(row.schema);
        Ok(row.conversation)
    }

    /// The fields of the next record, or `None` at the end of the file.
    fn record(&mut self) -> Result<Option<Vec<String>>> {
        let (mut fields, mut ends) = (vec![0; 1024], vec![0; self.header.names.len() + 1]);
        let (mut written, mut found) = (0, 0);
        self.taken.clear();
        self.taken_bytes = 0;
        while self.line[self.at..].trim_ascii().is_empty() {
            if !self.next_line()? {
                return Ok(None);
            }
        }
        self.number = self.last;
        loop {
            let (result, read, out, count) = self.parser.read_record(
                &self.line[self.at..],
                &mut fields[written..],
                &mut ends[found..],
            );
            self.at += read;
            written += out;
            found += count;
            match result {
                // A field between quotes goes on in the next line.
                ReadRecordResult::InputEmpty => {
                    if self.taken_bytes > MAX_LINE_BYTES || !self.next_line()? {
                        return Err(self.retry());
                    }
                    self.taken_bytes += self.line.len() + LINE_COST;
                    self.taken.push((self.last, self.line.clone()));
                }
                ReadRecordResult::OutputFull => fields.resize(2 * fields.len(), 0),
                ReadRecordResult::OutputEndsFull if ends.len() > MAX_COLUMNS => {
                    self.start_over();
                    return Err(self.malformed(format!("more than {MAX_COLUMNS} fields")));
                }
                ReadRecordResult::OutputEndsFull => ends.resize(2 * ends.len(), 0),
                ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let spans = starts.zip(&ends[..found]);
        let texts = spans.map(|(start, &end)| fields.get(start..end).unwrap_or_default().to_vec());
        let texts: Result<_, _> = texts.map(String::from_utf8).collect();
        let texts =
            texts.map_err(|_| self.malformed("not UTF-8; save the table in UTF-8".to_owned()));
        texts.map(Some)
    }

    /// Takes the next line, with its end; false at the end of the file.
    fn next_line(&mut self) -> Result<bool> {
        self.line.clear();
        self.at = 0;
        if let Some((number, line)) = self.again.pop_front() {
            (self.last, self.line) = (number, line);
            return Ok(true);
        }
        let line = match self.lines.next_bytes() {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(false),
            Err(error) => {
                self.parser.reset();
                return Err(error);
            }
        };
        self.line.extend_from_slice(line);
        self.line.push(b'\n');
        self.last = self.lines.number();
        let is_first = self.last == 1;
        if is_first && std::str::from_utf8(&self.line).is_ok_and(is_hint) {
            self.line.clear();
        }
        Ok(true)
    }

    /// Gives up a record whose quote is not closed, so that the lines after its first are read as records.
    fn retry(&mut self) -> TextError {
        let lines = std::mem::take(&mut self.taken);
        self.start_over();
        if self.retries == MAX_RETRIES {
            let count = lines.len();
            return self.malformed(format!(
                "a quote is not closed; the {count} lines after it are left out too"
            ));
        }
        self.retries += 1;
        lines
            .into_iter()
            .rev()
            .for_each(|line| self.again.push_front(line));
        self.malformed("a quote is not closed".to_owned())
    }

    /// Leaves what is left of the line, and the record.
    fn start_over(&mut self) {
        self.parser.reset();
        self.at = self.line.len();
    }
}

/// The error about a table whose columns are not to be used.
fn unusable(path: &Path, head: &[u8], columns: Option<&Columns>) -> TextError {
    let names = columns::names(head);
    let found = match names.as_slice() {
        [_] => format!("the one column {}", columns::list(&names)),
        _ => format!("the columns {}", columns::list(&names)),
    };
    let kind = if is_table(path) { "CSV" } else { "a table" };
    let remedy = match columns {
        Some(_) => "--columns names others",
        None => {
            "no question and answer are among them; name them, as in \
             `mor data prepare --columns user=QUESTION,assistant=ANSWER`"
        }
    };
    TextError::Unusable {
        path: path.to_owned(),
        reason: format!("{kind} with {found}: {remedy}"),
    }
}

impl<R: BufRead> Iterator for TableReader<R> {
    type Item = Result<Conversation>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.read().transpose();
        self.ended = super::reader::ends(&item);
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row, as line and turns, or the error about it.
    fn rows(name: &str, text: &[u8], columns: Option<&str>) -> Vec<Result<String, String>> {
        // A tiny buffer would cut the header; lines cross the end of a small one.
        let input = std::io::BufReader::with_capacity(200, text);
        let columns = columns.map(|it| it.parse().unwrap());
        let mut reader = match TableReader::new(input, Path::new(name), columns.as_ref()) {
            Ok(reader) => reader,
            Err(error) => return vec![Err(error.to_string())],
        };
        let mut all = Vec::new();
        while let Some(row) = reader.next() {
            all.push(match row {
                Ok(row) => {
                    let turn =
                        |it: &crate::Message| format!("{}:{}", &it.role.as_str()[..1], it.content);
                    let turns: Vec<_> = row.messages.iter().map(turn).collect();
                    Ok(format!("{} {}", reader.line(), turns.join("|")))
                }
                Err(error) => Err(error.to_string()),
            });
            assert!(all.len() < 1000, "does not end");
        }
        all
    }

    fn good(text: &str) -> Vec<String> {
        rows("a.csv", text.as_bytes(), None)
            .into_iter()
            .map(Result::unwrap)
            .collect()
    }

    #[test]
    fn headers_separators_quotes_and_line_ends() {
        for text in [
            "question,answer\nq,a\n",
            "\u{FEFF}Question;Answer\r\nq;a\r\n",
            "sep=;\nfrage;antwort\nq;a",
            "answer\tid\tprompt\na\t1\tq\n",
            "\"user\",\"assistant\"\n\"q\",\"a\"",
            "prompt|completion\nq|a\n",
            "question,answer\rq,a\r",
            "prompt,chosen,rejected\nq,a,b\n",
            "question,answer\n\u{FEFF}question,answer\nq,a\n",
        ] {
            let rows = good(text);
            assert!(
                rows.len() == 1 && rows[0].ends_with(" u:q|a:a"),
                "{text}: {rows:?}"
            );
        }
        let text = "instruction,input,output,system\n\"What is two, and two?\",,\"Four.\",\n\n,,,\n\
            Name it,\"a \"\"colour\"\"\nof yours\",\"Red\r\nor blue\",Be brief.\n";
        assert_eq!(
            good(text),
            [
                "2 u:What is two, and two?|a:Four.",
                "5 s:Be brief.|u:Name it\n\na \"colour\"\nof yours|a:Red\nor blue"
            ]
        );
        // Without an answer: whoever reads the row counts it.
        assert_eq!(good("question,answer\nq,\n"), ["2 u:q"]);
    }

    #[test]
    fn bad_records_are_named_and_cost_no_other() {
        let found = rows(
            "a.csv",
            b"question,answer\nq\nr,s,t\n,b\n\"open,a\nx,y\n\xFF,z\n\nlast,one\n",
            None,
        );
        let expected = [
            Err("a.csv:2: it has 1 fields, but the header 2"),
            Err("a.csv:3: it has 3 fields, but the header 2"),
            Err("a.csv:4: no question: the column `question` is blank"),
            Err("a.csv:5: a quote is not closed"),
            Ok("6 u:x|a:y"),
            Err("a.csv:7: not UTF-8; save the table in UTF-8"),
            Ok("9 u:last|a:one"),
        ];
        assert_eq!(
            found,
            expected.map(|it| it.map(str::to_owned).map_err(str::to_owned))
        );
        // Quotes that are never closed may not cost more than some readings of the file.
        let many = format!("question,answer\n{}", "a\"b,\"c\n".repeat(500));
        let found = rows("a.csv", many.as_bytes(), None);
        assert_eq!(found.len(), MAX_RETRIES as usize + 1);
        assert!(
            found
                .last()
                .unwrap()
                .as_ref()
                .unwrap_err()
                .contains("the 483 lines")
        );
    }

    #[test]
    fn columns_are_named_or_refused() {
        let of = |columns| rows("t.csv", b"Nr;Frage;Antwort;Rolle\n1;q;a;s\n", columns).remove(0);
        assert_eq!(
            of(Some("user=Frage,assistant=Antwort,system=Rolle")).unwrap(),
            "2 s:s|u:q|a:a"
        );
        assert_eq!(of(Some("user=Rolle,assistant=Nr")).unwrap(), "2 u:s|a:1");
        let error = of(Some("user=Frage,assistant=X")).unwrap_err();
        assert!(
            error.contains("`Nr`, `Frage`, `Antwort`, `Rolle`: --columns names others"),
            "{error}"
        );
        let error = rows("t.csv", b"name,age\x1b[31m\nBob,3\n", None)
            .remove(0)
            .unwrap_err();
        assert!(
            error.contains("t.csv: CSV with the columns `name`, `age\\u{1b}[31m`"),
            "{error}"
        );
        for bad in [
            "",
            "user",
            "user=a",
            "user=a,user=b,assistant=c",
            "user=,assistant=b",
            "x=y",
        ] {
            assert!(bad.parse::<Columns>().is_err(), "{bad}");
        }
    }
}
