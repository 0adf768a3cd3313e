//! Conversations: what datasets hold, templates render and chat sessions grow.

use serde::{Deserialize, Serialize};

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that precede the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name used in JSON and in templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who wrote it.
    pub role: Role,
    /// What was written, verbatim.
    pub content: String,
    /// Whether a model learns to write it, if an assistant wrote it. In JSON a message that is not learned has
    /// `"weight": 0`, as in OpenAI's files.
    #[serde(
        rename = "weight",
        default = "weight::learned",
        with = "weight",
        skip_serializing_if = "weight::is_learned"
    )]
    pub learned: bool,
}

/// [`Message::learned`] as the number that files have.
mod weight {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn learned() -> bool {
        true
    }

    pub(super) fn is_learned(learned: &bool) -> bool {
        *learned
    }

    pub(super) fn serialize<S: Serializer>(learned: &bool, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(u8::from(*learned))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        Ok(f64::deserialize(from)? != 0.0)
    }
}

impl Message {
    /// A message of `role`, learned if it is an assistant's.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            learned: true,
        }
    }

    /// Whether a model learns to write it.
    pub fn is_learned(&self) -> bool {
        self.role == Role::Assistant && self.learned
    }
}

/// A dataset row: messages in order, with their origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Where the row comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The licence of that source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

impl Conversation {
    /// UTF-8 bytes of all contents: what bits per byte are divided by.
    pub fn content_bytes(&self) -> usize {
        self.messages
            .iter()
            .map(|message| message.content.len())
            .sum()
    }

    /// Whether there is something to learn: an assistant's message that is learned and not blank.
    pub fn has_answer(&self) -> bool {
        let is_answer = |it: &Message| it.role == Role::Assistant && it.learned;
        self.messages
            .iter()
            .any(|it| is_answer(it) && !it.content.trim().is_empty())
    }
}

impl AsRef<[Message]> for Conversation {
    fn as_ref(&self) -> &[Message] {
        &self.messages
    }
}
