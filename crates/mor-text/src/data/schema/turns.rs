//! Lists of turns, and texts that hold several.

use serde_json::{Map, Value};

use super::{Unused, kind, shown};
use crate::{Message, Role};

/// Fields of a turn that are more than its text: without them it is another turn.
const CALLS: [&str; 2] = ["tool_calls", "function_call"];
/// Fields that stand in for a content.
const INSTEAD: [&str; 3] = ["refusal", "audio", "images"];

/// A list of objects that name a role and a content.
pub(super) fn turns(list: Value, key: &str, unused: &mut Unused) -> Result<Vec<Message>, String> {
    let turns = array(list, key)?;
    let turns = turns.into_iter().enumerate().map(|(at, turn)| {
        let Value::Object(mut fields) = turn else {
            let kind = kind(&turn);
            return Err(format!(
                "turn {} of `{key}`: {kind}, expected an object",
                at + 1
            ));
        };
        let message = message(&mut fields)
            .map_err(|reason| format!("turn {} of `{key}`: {reason}", at + 1))?;
        for name in fields.keys() {
            unused.add(format!("{key}[].{name}"));
        }
        Ok(message)
    });
    turns.collect()
}

/// One turn. What is used is removed from it.
pub(super) fn message(turn: &mut Map<String, Value>) -> Result<Message, String> {
    // Where some turns have a column, others may have null there: it says that there is no text, and not that the
    // turn lacks it.
    let says_nothing = ["content", "value"]
        .iter()
        .any(|&key| turn.get(key).is_some_and(Value::is_null));
    turn.retain(|_, value| !value.is_null());
    let role = match turn.remove("role").or_else(|| turn.remove("from")) {
        Some(Value::String(name)) => role(&name)
            .ok_or_else(|| format!("unknown role {name:?}, expected system, user or assistant"))?,
        Some(other) => return Err(format!("its role is {}", kind(&other))),
        None => return Err("missing field `role` (or `from`)".to_owned()),
    };
    let is_empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    for name in CALLS.into_iter().chain(INSTEAD) {
        if turn.get(name).is_some_and(is_empty) {
            turn.remove(name);
        }
    }
    if let Some(name) = CALLS.into_iter().find(|&name| turn.contains_key(name)) {
        return Err(format!(
            "it calls a tool (`{name}`), which cannot be written here"
        ));
    }
    let content = match turn.remove("content").or_else(|| turn.remove("value")) {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts_text(parts)?,
        Some(other) => return Err(format!("its content is {}", kind(&other))),
        None if says_nothing => String::new(),
        None => return Err("missing field `content` (or `value`)".to_owned()),
    };
    if content.trim().is_empty()
        && let Some(name) = INSTEAD.into_iter().find(|&name| turn.contains_key(name))
    {
        return Err(format!("it has no content but {}", shown(name)));
    }
    Ok(Message {
        role,
        content,
        learned: weight(turn)?,
    })
}

/// Whether a turn is learned: its `weight` is 1, or absent.
fn weight(turn: &mut Map<String, Value>) -> Result<bool, String> {
    let weight = match turn.remove("weight") {
        None => return Ok(true),
        Some(Value::Number(number)) => number,
        Some(other) => return Err(format!("its weight is {}, expected 0 or 1", kind(&other))),
    };
    match weight.as_f64() {
        Some(0.0) => Ok(false),
        Some(1.0) => Ok(true),
        _ => Err(format!("its weight is {weight}, expected 0 or 1")),
    }
}

/// The text of a content in parts, `[{"type":"text","text":"…"}]`.
fn parts_text(parts: Vec<Value>) -> Result<String, String> {
    let parts = parts
        .into_iter()
        .map(|mut part| match part.get_mut("text").map(Value::take) {
            Some(Value::String(text)) => Ok(text),
            _ => Err("its content has parts that are no text".to_owned()),
        });
    parts.collect()
}

/// Texts in which the user begins and turns alternate.
pub(super) fn alternating(list: Value, key: &str) -> Result<Vec<Message>, String> {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    let turns = array(list, key)?.into_iter().zip(roles);
    let messages = turns.enumerate().map(|(at, (turn, role))| match turn {
        Value::String(text) => Ok(Message::new(role, text)),
        other => Err(format!(
            "turn {} of `{key}` is {}, expected text",
            at + 1,
            kind(&other)
        )),
    });
    messages.collect()
}

/// The elements of a list that may not be empty.
pub(super) fn array(list: Value, key: &str) -> Result<Vec<Value>, String> {
    match list {
        Value::Array(list) if list.is_empty() => Err(format!("`{key}` is empty")),
        Value::Array(list) => Ok(list),
        other => Err(format!("`{key}` is {}, expected a list", kind(&other))),
    }
}

/// The role that datasets call by this name.
fn role(name: &str) -> Option<Role> {
    Some(match name.to_ascii_lowercase().as_str() {
        "system" | "developer" => Role::System,
        "user" | "human" | "prompter" => Role::User,
        "assistant" | "gpt" | "chatgpt" | "bing" | "bard" | "model" | "ai" | "bot" => {
            Role::Assistant
        }
        _ => return None,
    })
}

const MARKS: [(&str, Role); 2] = [
    ("\n\nHuman:", Role::User),
    ("\n\nAssistant:", Role::Assistant),
];

/// Whether a text is one of [`transcript`]'s.
pub(super) fn is_transcript(text: &str) -> bool {
    let text = text.trim_start();
    MARKS
        .iter()
        .any(|(mark, _)| text.starts_with(mark.trim_start()))
}

/// The turns of a text in which each begins with `Human:` or `Assistant:` after a blank line.
pub(super) fn transcript(text: &str, key: &str) -> Result<Vec<Message>, String> {
    if !is_transcript(text) {
        return Err(format!(
            "`{key}` does not begin with \"Human:\" or \"Assistant:\""
        ));
    }
    let text = format!("\n\n{}", text.trim_start());
    let next = |text: &str| {
        let found = MARKS.map(|(mark, role)| Some((text.find(mark)?, mark, role)));
        found.into_iter().flatten().min_by_key(|found| found.0)
    };
    let mut messages = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, mark, role)) = next(rest) {
        rest = &rest[mark.len()..];
        let end = next(rest).map_or(rest.len(), |found| found.0);
        messages.push(Message::new(role, rest[..end].trim()));
        rest = &rest[end..];
    }
    Ok(messages)
}
