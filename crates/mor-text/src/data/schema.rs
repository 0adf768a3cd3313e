//! The shapes in which published datasets write a conversation, told apart by their keys.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Conversation, Message, Role};

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
    /// `{"instruction":"…", "input":"…", "output":"…"}`.
    Alpaca,
}

impl Schema {
    /// The name by which the shape is known.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "chat messages",
            Self::ShareGpt => "ShareGPT",
            Self::UltraChat => "UltraChat",
            Self::HhRlhf => "HH-RLHF",
            Self::Alpaca => "Alpaca",
        }
    }
}

/// Reads a row of any shape.
///
/// Blank messages are left out, and messages of one role that follow one another become one, joined by a line
/// break: a chat template gives each message a turn, and turns alternate when a model is used. Otherwise
/// contents stay as they are (of HH-RLHF without white space around them), and so does the order: a
/// conversation may begin with the assistant, and system messages stay where they are.
///
/// # Errors
/// What is wrong with the row.
pub(super) fn conversation(row: Value) -> Result<(Conversation, Schema), String> {
    let Value::Object(mut row) = row else {
        return Err("expected a JSON object {\"messages\":[…]}".to_owned());
    };
    let (messages, schema) = messages(&mut row)?;
    let mut text = |key: &str| match row.remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let conversation = Conversation {
        messages: join(messages),
        source: text("source"),
        licence: text("licence").or_else(|| text("license")),
    };
    Ok((conversation, schema))
}

/// The messages of a row, as they are written there.
fn messages(row: &mut Map<String, Value>) -> Result<(Vec<Message>, Schema), String> {
    if let Some(list) = row.remove("messages") {
        return Ok((turns(list, "messages")?, Schema::Messages));
    }
    if let Some(list) = row.remove("conversations") {
        return Ok((turns(list, "conversations")?, Schema::ShareGpt));
    }
    match row.remove("chosen") {
        Some(Value::String(text)) => return Ok((transcript(&text)?, Schema::HhRlhf)),
        Some(list) => return Ok((turns(list, "chosen")?, Schema::HhRlhf)),
        None => {}
    }
    if row.contains_key("instruction") && row.contains_key("output") {
        let mut text = |key| match row.remove(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(format!("`{key}` is {}, expected text", kind(&other))),
        };
        let (mut question, input) = (text("instruction")?, text("input")?);
        if !input.trim().is_empty() {
            question = format!("{question}\n\n{input}");
        }
        let answer = text("output")?;
        let messages = vec![
            Message::new(Role::User, question),
            Message::new(Role::Assistant, answer),
        ];
        return Ok((messages, Schema::Alpaca));
    }
    if let Some(list) = row.remove("data") {
        let roles = [Role::User, Role::Assistant].into_iter().cycle();
        let turns = array(list, "data")?.into_iter().zip(roles);
        let messages = turns.enumerate().map(|(at, (turn, role))| match turn {
            Value::String(text) => Ok(Message::new(role, text)),
            other => Err(format!(
                "turn {} of `data` is {}, expected text",
                at + 1,
                kind(&other)
            )),
        });
        return Ok((messages.collect::<Result<_, _>>()?, Schema::UltraChat));
    }
    let keys: Vec<_> = row.keys().take(8).map(|key| format!("`{key}`")).collect();
    Err(format!(
        "missing field `messages` (or `conversations`, `data`, `chosen`, `instruction` and `output`); it has {}",
        if keys.is_empty() {
            "none".to_owned()
        } else {
            keys.join(", ")
        }
    ))
}

/// A list of objects that name a role and a content.
fn turns(list: Value, key: &str) -> Result<Vec<Message>, String> {
    let turns = array(list, key)?;
    let turns = turns.into_iter().enumerate().map(|(at, turn)| {
        let fail = |reason: String| format!("turn {} of `{key}`: {reason}", at + 1);
        let Value::Object(mut turn) = turn else {
            return Err(fail(format!("{}, expected an object", kind(&turn))));
        };
        let role = match turn.remove("role").or_else(|| turn.remove("from")) {
            Some(Value::String(name)) => role(&name).ok_or_else(|| {
                fail(format!(
                    "unknown role \"{name}\", expected system, user or assistant"
                ))
            })?,
            Some(other) => return Err(fail(format!("its role is {}", kind(&other)))),
            None => return Err(fail("missing field `role` (or `from`)".to_owned())),
        };
        let content = match turn.remove("content").or_else(|| turn.remove("value")) {
            Some(Value::String(text)) => text,
            Some(Value::Array(parts)) => parts_text(parts).map_err(fail)?,
            Some(Value::Null) => String::new(),
            Some(other) => return Err(fail(format!("its content is {}", kind(&other)))),
            None => return Err(fail("missing field `content` (or `value`)".to_owned())),
        };
        Ok(Message { role, content })
    });
    turns.collect()
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

/// The elements of a list that may not be empty.
fn array(list: Value, key: &str) -> Result<Vec<Value>, String> {
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

/// The turns of a text in which each begins with `Human:` or `Assistant:` after a blank line.
fn transcript(text: &str) -> Result<Vec<Message>, String> {
    const MARKS: [(&str, Role); 2] = [
        ("\n\nHuman:", Role::User),
        ("\n\nAssistant:", Role::Assistant),
    ];
    let text = format!("\n\n{}", text.trim_start());
    let next = |text: &str| {
        let found = MARKS.map(|(mark, role)| Some((text.find(mark)?, mark, role)));
        found.into_iter().flatten().min_by_key(|found| found.0)
    };
    let mut messages = Vec::new();
    let mut rest = match next(&text) {
        Some((0, ..)) => text.as_str(),
        _ => return Err("`chosen` does not begin with \"Human:\" or \"Assistant:\"".to_owned()),
    };
    while let Some((_, mark, role)) = next(rest) {
        rest = &rest[mark.len()..];
        let end = next(rest).map_or(rest.len(), |found| found.0);
        messages.push(Message::new(role, rest[..end].trim()));
        rest = &rest[end..];
    }
    Ok(messages)
}

/// Without blank messages, and with one for those of one role that follow one another.
fn join(messages: Vec<Message>) -> Vec<Message> {
    let mut joined: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        if message.content.trim().is_empty() {
            continue;
        }
        match joined.last_mut() {
            Some(last) if last.role == message.role => {
                last.content.push('\n');
                last.content.push_str(&message.content);
            }
            _ => joined.push(message),
        }
    }
    joined
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
mod tests {
    use super::*;
    use serde_json::json;

    /// The turns of a row, each as its role's first letter and its content.
    fn read(row: Value) -> Result<(Vec<String>, Schema), String> {
        let (row, schema) = conversation(row)?;
        let turn = |it: &Message| format!("{}:{}", &it.role.as_str()[..1], it.content);
        Ok((row.messages.iter().map(turn).collect(), schema))
    }

    #[test]
    fn shapes_are_told_apart_by_their_keys() {
        let chat = [("user", "q"), ("assistant", "a")];
        let messages = chat.map(|(role, content)| json!({ "role": role, "content": content }));
        for (row, schema) in [
            (json!({ "messages": messages }), Schema::Messages),
            (
                json!({ "prompt": "q", "prompt_id": "1", "messages": messages }),
                Schema::Messages,
            ),
            (
                json!({ "id": "1", "conversations": [
                    { "from": "human", "value": "q" }, { "from": "gpt", "value": "a" },
                ]}),
                Schema::ShareGpt,
            ),
            (json!({ "id": "1", "data": ["q", "a"] }), Schema::UltraChat),
            (
                json!({ "chosen": "\n\nHuman: q\n\nAssistant: a ", "rejected": "\n\nHuman: q" }),
                Schema::HhRlhf,
            ),
            (
                json!({ "chosen": messages, "rejected": messages }),
                Schema::HhRlhf,
            ),
            (
                json!({ "instruction": "q", "input": "", "output": "a" }),
                Schema::Alpaca,
            ),
            (
                json!({ "instruction": "q", "output": "a", "data": 1 }),
                Schema::Alpaca,
            ),
        ] {
            assert_eq!(
                read(row).unwrap(),
                (vec!["u:q".to_owned(), "a:a".to_owned()], schema)
            );
        }
        let row = json!({ "instruction": "q", "input": "i", "output": "a", "text": "…" });
        assert_eq!(read(row).unwrap().0, ["u:q\n\ni", "a:a"]);
        let row = json!({ "messages": [{ "role": "user", "content": [
            { "type": "text", "text": "a" }, { "type": "text", "text": "b" },
        ]}, { "role": "assistant", "content": null }]});
        assert_eq!(read(row).unwrap().0, ["u:ab"]);
    }

    #[test]
    fn every_name_of_a_role() {
        let turns: Vec<_> = ["Human", "bing", "user", "chatgpt", "system", "GPT"]
            .iter()
            .enumerate()
            .map(|(at, name)| json!({ "from": name, "value": at.to_string() }))
            .collect();
        assert_eq!(
            read(json!({ "conversations": turns })).unwrap().0,
            ["u:0", "a:1", "u:2", "a:3", "s:4", "a:5"]
        );
    }

    #[test]
    fn blank_turns_go_and_turns_of_one_role_are_joined() {
        let turns = |turns: &[(&str, &str)]| {
            let turns = turns
                .iter()
                .map(|(role, text)| json!({ "role": role, "content": text }));
            read(json!({ "messages": turns.collect::<Vec<_>>() }))
                .unwrap()
                .0
        };
        assert_eq!(
            turns(&[
                ("system", "1"),
                ("system", "2"),
                ("user", "q"),
                ("system", "3")
            ]),
            ["s:1\n2", "u:q", "s:3"]
        );
        assert_eq!(
            turns(&[
                ("assistant", " a\r"),
                ("user", " \n"),
                ("assistant", "b"),
                ("user", "c ")
            ]),
            ["a: a\r\nb", "u:c "]
        );
        assert_eq!(turns(&[("user", "")]), [""; 0]);
    }

    #[test]
    fn transcripts() {
        let of = |text: &str| read(json!({ "chosen": text })).map(|it| it.0);
        let text = "\n\nHuman: one\n\nHuman two: x\n\nAssistant: a\n\nb\n\nHuman:\n\nAssistant: c";
        assert_eq!(of(text).unwrap(), ["u:one\n\nHuman two: x", "a:a\n\nb\nc"]);
        assert_eq!(
            of("Assistant: hi\n\nHuman: yes").unwrap(),
            ["a:hi", "u:yes"]
        );
        assert!(of("Well, Human: x").unwrap_err().contains("does not begin"));
        assert!(of("").unwrap_err().contains("does not begin"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (row, reason) in [
            (json!([1]), "expected a JSON object"),
            (json!({}), "missing field `messages`"),
            (json!({ "text": 1, "id": 2 }), "it has `id`, `text`"),
            (json!({ "messages": [] }), "`messages` is empty"),
            (
                json!({ "messages": {} }),
                "`messages` is an object, expected a list",
            ),
            (
                json!({ "messages": ["x"] }),
                "turn 1 of `messages`: text, expected an object",
            ),
            (
                json!({ "messages": [{ "content": "" }] }),
                "missing field `role`",
            ),
            (
                json!({ "messages": [{ "role": "user", "content": "" }, { "role": "tool", "content": "" }] }),
                "turn 2 of `messages`: unknown role \"tool\"",
            ),
            (
                json!({ "messages": [{ "role": 1 }] }),
                "its role is a number",
            ),
            (
                json!({ "messages": [{ "role": "user" }] }),
                "missing field `content`",
            ),
            (
                json!({ "messages": [{ "role": "user", "content": 1 }] }),
                "its content is a number",
            ),
            (
                json!({ "messages": [{ "role": "user", "content": [{ "type": "image" }] }] }),
                "parts that are no text",
            ),
            (
                json!({ "messages": [{ "role": "user", "content": [7] }] }),
                "parts that are no text",
            ),
            (
                json!({ "data": ["a", 2] }),
                "turn 2 of `data` is a number, expected text",
            ),
            (
                json!({ "instruction": 1, "output": "" }),
                "`instruction` is a number",
            ),
        ] {
            let error = conversation(row).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
