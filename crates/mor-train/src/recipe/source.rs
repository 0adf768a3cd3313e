//! The text of a recipe, the keys changed on the command line, and where each value stands.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::{Result, TrainError};

/// A key changed on the command line: `train.lr=3e-4`.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// The dotted key.
    key: String,
    /// Its value; what is no TOML value is text.
    value: toml::Value,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or("expected KEY=VALUE, such as train.lr=3e-4")?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || key.split('.').any(str::is_empty) {
            return Err(format!(
                "`{key}` is no key; expected one such as train.lr or model.num_hidden_layers"
            ));
        }
        // As in a recipe's line, but quotes may be left out, since shells eat them.
        let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"));
        let parsed = parsed.ok().and_then(|mut table| table.remove("value"));
        let digits = value.trim_start_matches(['+', '-']);
        if parsed.is_none() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!(
                "`{key}` is {value}, beyond the whole numbers of a recipe; they end at {}",
                i64::MAX
            ));
        }
        Ok(Self {
            key: key.to_owned(),
            value: parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())),
        })
    }
}

/// A recipe before it is understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    path: PathBuf,
    text: String,
    overrides: Vec<Override>,
}

impl Source {
    pub(super) fn new(text: &str, path: &Path, overrides: &[Override]) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            overrides: overrides.to_vec(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Parses the text with the overrides in place.
    pub(super) fn load<T: DeserializeOwned>(&self) -> Result<T> {
        let parsed = toml::from_str::<T>(&self.text);
        if self.overrides.is_empty() {
            return parsed.map_err(|error| self.error(one_line(&self.text, &error)));
        }
        let mut table: toml::Table =
            toml::from_str(&self.text).map_err(|error| self.error(one_line(&self.text, &error)))?;
        for change in &self.overrides {
            insert(&mut table, &change.key, change.value.clone())
                .map_err(|problem| self.error(format!("--set {}: {problem}", change.key)))?;
        }
        T::deserialize(table).map_err(|changed| match parsed {
            // An override may mend the file, so only what remains wrong is an error, and the file's has a line.
            Err(error) => self.error(one_line(&self.text, &error)),
            Ok(_) => self.error(format!("--set: {}", flat(changed.message()))),
        })
    }

    fn error(&self, reason: String) -> TrainError {
        TrainError::Recipe {
            path: self.path.clone(),
            reason,
        }
    }

    /// An error about the value of the dotted `key`, saying where that stands.
    pub(super) fn value_error(&self, key: &str, problem: impl Into<String>) -> TrainError {
        let changed = |change: &&Override| change.key == key;
        let place = match self.overrides.iter().rfind(changed) {
            Some(_) => "--set".to_owned(),
            None => match line_of(&self.text, key) {
                Some(line) => format!("line {line}"),
                None => String::new(),
            },
        };
        TrainError::Value {
            path: self.path.clone(),
            place,
            key: key.to_owned(),
            problem: problem.into(),
        }
    }
}

/// Puts a value at a dotted key, making tables on the way.
fn insert(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = table
                .entry(first)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            match inner {
                toml::Value::Table(inner) => insert(inner, rest, value),
                _ => Err(format!("`{first}` is not a table")),
            }
        }
    }
}

/// The line on which the dotted `key` stands, or, where it is absent, the table around it.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut found = None;
    for part in key.split('.') {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else {
            break;
        };
        found = Some(name.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            // Of a list of tables, such as the stages of depth, the first.
            DeValue::Array(list) => match list.first().map(|item| item.get_ref()) {
                Some(DeValue::Table(inner)) => table = inner,
                _ => break,
            },
            _ => break,
        }
    }
    found.map(|at| line_at(text, at))
}

fn line_at(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// The TOML error with its line number, on one line.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let message = flat(error.message());
    match error.span() {
        Some(span) => format!("line {}: {message}", line_at(text, span.start)),
        None => message,
    }
}

fn flat(message: &str) -> String {
    message.trim().replace('\n', ", ")
}
