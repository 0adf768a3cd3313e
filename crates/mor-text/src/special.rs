//! The special tokens and the chat template of tokenizers made here.

/// The special tokens of the technical model card, in its order: token `i` has id `i`.
pub const SPECIAL_TOKENS: [&str; 14] = [
    "<pad>",
    "<unk>",
    "<bos>",
    "<eos>",
    "<system>",
    "<user>",
    "<assistant>",
    "<|endoftext|>",
    "<|newline|>",
    "<|tab|>",
    "<|code|>",
    "<|/code|>",
    "<|math|>",
    "<|/math|>",
];

/// Tokens after which generation stops: the end of an answer, or a turn that is not the model's to write.
pub(crate) const STOP_TOKENS: [&str; 7] = [
    "<eos>",
    "<|endoftext|>",
    "<user>",
    "<system>",
    "<assistant>",
    "<|user|>",
    "<|assistant|>",
];

/// `<bos>`, then each message as its role's token and its content, `<eos>` after each answer; the generation
/// prompt opens an answer.
pub const DEFAULT_CHAT_TEMPLATE: &str = "{{ bos_token }}\
{% for message in messages %}\
{{ '<' + message['role'] + '>' + message['content'] }}\
{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}";

/// GPT-2's only special token: the end of a text.
#[cfg(feature = "fs")]
pub(crate) const END_OF_TEXT: &str = "<|endoftext|>";

/// The conversational card's format over GPT-2's vocabulary: each message as its role's token, a line feed, its content
/// and a line feed, `<|endoftext|>` after each answer. It has no turn for instructions.
#[cfg(feature = "fs")]
pub(crate) const GPT2_CHAT_TEMPLATE: &str = "{% for message in messages %}\
{% if message['role'] == 'system' %}{{ raise_exception('this model knows no system messages') }}{% endif %}\
{{ '<|' + message['role'] + '|>\\n' + message['content'] + '\\n' }}\
{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";
