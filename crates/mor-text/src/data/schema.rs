//! The shapes in which published datasets write a conversation, told apart by their keys.

mod pairs;
mod preference;
mod turns;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Conversation, Message, Role};

pub(super) use pairs::{ANSWERS, EXTRAS, QUESTIONS, SYSTEMS};
use turns::turns;

/// How a row writes its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Schema {
    /// `{"messages":[{"role":"user","content":"…"}, …]}`: OpenAI's, and UltraChat 200k's.
    Messages,
    /// `{"conversations":[{"from":"human","value":"…"}, …]}`.
    ShareGpt,
    /// `{"data":["what the user says", "what the assistant says", …]}`.
    UltraChat,
    /// `{"chosen":"\n\nHuman: …\n\nAssistant: …", "rejected":"…"}`, of which the chosen one is read.
    HhRlhf,
    /// `{"prompt":…, "chosen":…, "rejected":…}`, of which prompt and chosen answer are read.
    Preference,
    /// `{"instruction":"…", "input":"…", "output":"…"}`, also with `system` and `history`.
    Alpaca,
    /// A question and an answer under other names: `question` and `answer`, `prompt` and `completion`, …
    Pair,
}

impl Schema {
    /// The name by which the shape is known.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "chat messages",
            Self::ShareGpt => "ShareGPT",
            Self::UltraChat => "UltraChat",
            Self::HhRlhf => "HH-RLHF",
            Self::Preference => "preference",
            Self::Alpaca => "Alpaca",
            Self::Pair => "question and answer",
        }
    }
}

/// Fields of a row that were not used, each once, by name; a turn's as `messages[].name`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unused(pub(super) Vec<String>);

impl Unused {
    pub(super) fn add(&mut self, name: String) {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }
}

/// A row that was read.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) conversation: Conversation,
    pub(super) schema: Schema,
    pub(super) unused: Unused,
}

/// Lists of turns, in the order in which they are looked for.
const LISTS: [(&str, Schema); 3] = [
    ("messages", Schema::Messages),
    ("conversations", Schema::ShareGpt),
    ("conversation", Schema::ShareGpt),
];

/// Reads a row of any shape.
///
/// A field that is null is absent: tables write rows of several shapes so. A top-level `system` becomes the first
/// message. Blank messages are left out, and messages of one role that follow one another become one, joined by a
/// line break: a chat template gives each message a turn, and turns alternate when a model is used. Otherwise
/// contents stay as they are (of HH-RLHF without white space around them), and so does the order: a
/// conversation may begin with the assistant, and system messages stay where they are.
///
/// # Errors
/// What is wrong with the row.
pub(super) fn conversation(row: Value) -> Result<Row, String> {
    let Value::Object(mut row) = row else {
        return Err("expected a JSON object {\"messages\":[…]}".to_owned());
    };
    row.retain(|_, value| !value.is_null());
    let mut unused = Unused::default();
    let (mut messages, schema) = messages(&mut row, &mut unused)?;
    if let Some(system) = pairs::system(&mut row)? {
        let says_so = |it: &Message| it.role == Role::System && it.content == system;
        if !messages.iter().any(says_so) {
            messages.insert(0, Message::new(Role::System, system));
        }
    }
    let mut text = |keys: &[&str]| {
        let key = keys
            .iter()
            .find(|&&key| row.get(key).is_some_and(Value::is_string))?;
        match row.remove(*key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    };
    let conversation = Conversation {
        messages: join(messages)?,
        source: text(&["source"]),
        licence: text(&["licence", "license"]),
    };
    row.into_iter().for_each(|(key, _)| unused.add(key));
    Ok(Row {
        conversation,
        schema,
        unused,
    })
}

/// The messages of a row, as they are written there. What is used is removed from it.
fn messages(
    row: &mut Map<String, Value>,
    unused: &mut Unused,
) -> Result<(Vec<Message>, Schema), String> {
    let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let holds = |row: &Map<_, _>, key: &str| row.get(key).is_some_and(|it| !is_empty(it));
    for (key, schema) in LISTS {
        if holds(row, key) {
            let list = row.remove(key).unwrap_or_default();
            let messages = turns(list, key, unused)?;
            return Ok((preference::complete(row, messages, unused)?, schema));
        }
    }
    if holds(row, "chosen") {
        return preference::read(row, unused);
    }
    if let Some(pair) = pairs::read(row, unused)? {
        return Ok(pair);
    }
    if holds(row, "data") {
        let list = row.remove("data").unwrap_or_default();
        return Ok((turns::alternating(list, "data")?, Schema::UltraChat));
    }
    let lists = LISTS.map(|(key, _)| key).into_iter();
    if let Some(key) = lists
        .chain(["chosen", "data"])
        .find(|&key| row.contains_key(key))
    {
        return Err(format!("`{key}` is empty"));
    }
    let keys: Vec<_> = row.keys().take(8).map(|key| shown(key)).collect();
    Err(format!(
        "missing field `messages` (or `conversations`, `data`, `chosen`, `instruction` and `output`, `question` and \
         `answer`, `prompt` and `completion`); it has {}",
        if keys.is_empty() {
            "none".to_owned()
        } else {
            keys.join(", ")
        }
    ))
}

/// A key between backticks, of any file: short, and without control characters.
pub(super) fn shown(key: &str) -> String {
    const LONGEST: usize = 48;
    let cut = key.floor_char_boundary(LONGEST);
    let rest = if cut < key.len() { "…" } else { "" };
    format!("`{}{rest}`", key[..cut].escape_debug())
}

/// Without blank messages, and with one for those of one role that follow one another.
fn join(messages: Vec<Message>) -> Result<Vec<Message>, String> {
    let mut joined: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        if message.content.trim().is_empty() {
            continue;
        }
        match joined.last_mut() {
            Some(last) if last.role == message.role => {
                if last.role == Role::Assistant && last.learned != message.learned {
                    return Err(
                        "two messages of the assistant follow one another, of which one has weight 0: \
                         they are no single message"
                            .to_owned(),
                    );
                }
                last.learned &= message.learned;
                last.content.push('\n');
                last.content.push_str(&message.content);
            }
            _ => joined.push(message),
        }
    }
    Ok(joined)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
