//! Rows of preference data: a question with an answer that was chosen and one that was rejected.

use serde_json::{Map, Value};

use super::turns::{is_transcript, message, transcript, turns};
use super::{Schema, Unused, kind, pairs};
use crate::{Message, Role};

/// A row with `chosen`, whose question stands in it or beside it.
pub(super) fn read(
    row: &mut Map<String, Value>,
    unused: &mut Unused,
) -> Result<(Vec<Message>, Schema), String> {
    let chosen = row.remove("chosen").unwrap_or_default();
    let prompt = pairs::question_of(row, unused)?.map(spoken);
    let Some(prompt) = prompt.transpose()? else {
        let messages = match chosen {
            Value::String(text) => transcript(&text, "chosen")?,
            other => answer(other, unused)?,
        };
        return Ok((messages, Schema::HhRlhf));
    };
    let messages = after(prompt, answer(chosen, unused)?)?;
    Ok((messages, Schema::Preference))
}

/// A list of turns whose last answer may stand in `chosen`, and whose question in `prompt`.
pub(super) fn complete(
    row: &mut Map<String, Value>,
    mut messages: Vec<Message>,
    unused: &mut Unused,
) -> Result<Vec<Message>, String> {
    let last = messages.last().map(|message| message.role);
    if last != Some(Role::Assistant)
        && let Some(chosen) = row.remove("chosen")
    {
        messages = after(messages, answer(chosen, unused)?)?;
    }
    // Elsewhere `prompt` repeats what the list begins with, or tells how the list came about.
    if let Some(Value::String(prompt)) = row.get("prompt") {
        let prompt = [Message::new(Role::User, prompt.as_str())];
        if first_role(&messages) == Some(Role::Assistant) {
            row.remove("prompt");
            return after(prompt.into(), messages);
        }
        if holds(&messages, &prompt) {
            row.remove("prompt");
        }
    }
    Ok(messages)
}

/// The answer that was chosen: a text, a turn, or a list of turns.
fn answer(chosen: Value, unused: &mut Unused) -> Result<Vec<Message>, String> {
    match chosen {
        Value::String(text) if is_transcript(&text) => transcript(&text, "chosen"),
        Value::String(text) => Ok(vec![Message::new(Role::Assistant, text)]),
        Value::Object(mut turn) => {
            let message = message(&mut turn).map_err(|reason| format!("`chosen`: {reason}"))?;
            turn.keys()
                .for_each(|name| unused.add(format!("chosen.{name}")));
            Ok(vec![message])
        }
        list @ Value::Array(_) => turns(list, "chosen", unused),
        other => Err(format!("`chosen` is {}, expected a list", kind(&other))),
    }
}

/// A question that is written as a transcript, as its turns.
fn spoken(mut prompt: Vec<Message>) -> Result<Vec<Message>, String> {
    match prompt.last() {
        Some(last) if is_transcript(&last.content) => {
            let turns = transcript(&last.content, "prompt")?;
            prompt.pop();
            prompt.extend(turns);
            Ok(prompt)
        }
        _ => Ok(prompt),
    }
}

/// `answer` after `prompt`, unless it repeats it.
fn after(prompt: Vec<Message>, answer: Vec<Message>) -> Result<Vec<Message>, String> {
    if holds(&answer, &prompt) {
        return Ok(answer);
    }
    if first_role(&answer) != Some(Role::Assistant) {
        return Err("`chosen` begins with another question than `prompt`".to_owned());
    }
    Ok(prompt.into_iter().chain(answer).collect())
}

fn first_role(messages: &[Message]) -> Option<Role> {
    let spoken = messages.iter().find(|it| it.role != Role::System);
    spoken.map(|message| message.role)
}

/// Whether each question of `prompt` is one of `messages`.
fn holds(messages: &[Message], prompt: &[Message]) -> bool {
    let text = |message: &Message| message.content.trim().to_owned();
    let is_there = |question: &Message| {
        let mut users = messages.iter().filter(|it| it.role == Role::User);
        users.any(|it| text(it) == text(question))
    };
    let mut questions = prompt.iter().filter(|it| it.role == Role::User).peekable();
    questions.peek().is_some() && questions.all(is_there)
}
