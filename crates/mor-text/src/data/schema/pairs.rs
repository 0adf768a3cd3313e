//! Rows of a question and an answer, by the names that datasets give to the two.

use serde_json::{Map, Value};

use super::turns::turns;
use super::{Schema, Unused, kind};
use crate::{Message, Role};

/// Names of the question, the likeliest first.
pub(in crate::data) const QUESTIONS: [&str; 7] = [
    "instruction",
    "question",
    "prompt",
    "query",
    "input",
    "user",
    "frage",
];
/// Names of the answer, the likeliest first.
pub(in crate::data) const ANSWERS: [&str; 6] = [
    "output",
    "answer",
    "response",
    "completion",
    "assistant",
    "antwort",
];
/// Names of what a question is about, which follows it after a blank line.
pub(in crate::data) const EXTRAS: [&str; 2] = ["input", "context"];
/// Names of the instructions that precede a conversation.
pub(in crate::data) const SYSTEMS: [&str; 2] = ["system", "system_prompt"];

/// A row with a question and an answer, or `None` if it lacks either.
pub(super) fn read(
    row: &mut Map<String, Value>,
    unused: &mut Unused,
) -> Result<Option<(Vec<Message>, Schema)>, String> {
    let find = |names: &[&'static str]| names.iter().copied().find(|&name| row.contains_key(name));
    let (Some(question), Some(answer)) = (find(&QUESTIONS), find(&ANSWERS)) else {
        return Ok(None);
    };
    // Where answers are marked as good or bad, the bad ones are not to be learned.
    match row.get("label") {
        Some(Value::Bool(false)) => {
            return Err("`label` is false: an answer that is not wanted".to_owned());
        }
        Some(Value::Bool(true)) => drop(row.remove("label")),
        _ => {}
    }
    let mut messages = question_of(row, unused)?.unwrap_or_default();
    messages.extend(part(row, answer, Role::Assistant, unused)?);
    let schema = match (question, answer) {
        ("instruction", "output") => Schema::Alpaca,
        _ => Schema::Pair,
    };
    Ok(Some((messages, schema)))
}

/// The question of a row, with what it is about and the turns before it.
pub(super) fn question_of(
    row: &mut Map<String, Value>,
    unused: &mut Unused,
) -> Result<Option<Vec<Message>>, String> {
    let Some(name) = QUESTIONS
        .iter()
        .copied()
        .find(|&name| row.contains_key(name))
    else {
        return Ok(None);
    };
    let mut messages = history(row, unused)?;
    let mut question = part(row, name, Role::User, unused)?;
    // Beside a list of turns they would be of no turn.
    if let [message] = question.as_mut_slice()
        && message.role == Role::User
    {
        for extra in EXTRAS {
            match row.get(extra) {
                Some(Value::String(text)) => {
                    if !text.trim().is_empty() {
                        if !message.content.trim().is_empty() {
                            message.content += "\n\n";
                        }
                        message.content += text;
                    }
                    row.remove(extra);
                }
                Some(other) if extra == "input" => {
                    return Err(format!("`input` is {}, expected text", kind(other)));
                }
                _ => {}
            }
        }
    }
    messages.append(&mut question);
    Ok(Some(messages))
}

/// A question or an answer: a text, or a list of turns.
fn part(
    row: &mut Map<String, Value>,
    name: &str,
    role: Role,
    unused: &mut Unused,
) -> Result<Vec<Message>, String> {
    match row.remove(name) {
        Some(Value::String(text)) => Ok(vec![Message::new(role, text)]),
        Some(list @ Value::Array(_)) => turns(list, name, unused),
        other => Err(format!(
            "`{name}` is {}, expected text",
            kind(&other.unwrap_or_default())
        )),
    }
}

/// Alpaca's earlier turns: pairs of a question and its answer; elsewhere, messages.
fn history(row: &mut Map<String, Value>, unused: &mut Unused) -> Result<Vec<Message>, String> {
    let pairs = match row.remove("history") {
        None => return Ok(Vec::new()),
        Some(Value::Array(pairs)) if pairs.is_empty() => return Ok(Vec::new()),
        Some(list @ Value::Array(_)) if list[0].is_object() => {
            return turns(list, "history", unused);
        }
        Some(Value::Array(pairs)) => pairs,
        Some(other) => return Err(format!("`history` is {}, expected a list", kind(&other))),
    };
    let mut messages = Vec::with_capacity(2 * pairs.len());
    for (at, pair) in pairs.into_iter().enumerate() {
        let pair = match pair {
            Value::Array(pair) => <[Value; 2]>::try_from(pair).ok(),
            _ => None,
        };
        let Some([Value::String(question), Value::String(answer)]) = pair else {
            let at = at + 1;
            return Err(format!("turn {at} of `history` is no [question, answer]"));
        };
        messages.push(Message::new(Role::User, question));
        messages.push(Message::new(Role::Assistant, answer));
    }
    Ok(messages)
}

/// The instructions beside a conversation, unless they are blank.
pub(super) fn system(row: &mut Map<String, Value>) -> Result<Option<String>, String> {
    let Some(name) = SYSTEMS.iter().copied().find(|&name| row.contains_key(name)) else {
        return Ok(None);
    };
    match row.remove(name) {
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
        other => Err(format!(
            "`{name}` is {}, expected text",
            kind(&other.unwrap_or_default())
        )),
    }
}
