//! Any text as a chat template ends with ids or with an error, in bounded time: never a panic.
//!
//! `MOR_DAMAGE_CASES=100000` tries as many.

use std::path::Path;
use std::sync::LazyLock;

use mor_text::{Message, Role, Tokenizer};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

fn cases() -> u32 {
    let cases = std::env::var("MOR_DAMAGE_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(60)
}

/// Valid templates.
static SEEDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let file: Value = serde_json::from_str(include_str!("data/chat-templates.json")).unwrap();
    let templates = file["templates"].as_array().unwrap().iter();
    templates
        .map(|template| template["template"].as_str().unwrap().to_owned())
        .collect()
});

static TOKENIZER_JSON: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer/tokenizer.json");
    std::fs::read(path).unwrap()
});

/// What templates may do that costs much, or that libraries get wrong.
const SNIPPETS: [&str; 40] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "-",
    "'",
    "\"",
    "(",
    "[",
    "::-1]",
    "[::-1]",
    "|list",
    "|join",
    "|tojson(indent=9)",
    "{% for i in range(99999) %}",
    "{% endfor %}",
    "{% set x = x ~ x %}",
    "{% set ns = namespace(x='aaaa') %}",
    "{% set ns.x = ns.x ~ ns.x %}",
    "{% set ns.x = [ns.x, ns] %}",
    "{{ ns }}",
    " * 99999",
    "{% generation %}",
    "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "|indent(999)",
    "|replace('', 'xxxxxxxxxx')",
    "[9223372036854775807:]",
    "[-9223372036854775808]",
    " // 0",
    " ** 99",
    "|int",
    "|round(-400)",
    ".split('')",
    ".items()",
    "|sort|unique|groupby('a')",
    "{% raw %}",
    "range(0, 99999, 0)",
    "|sum",
    "|dictsort|batch(0)",
];

#[derive(Debug, Clone)]
enum Damage {
    Insert(Index, &'static str),
    Character(Index, char),
    Remove(Index, usize),
    /// Copies a part to another place.
    Repeat(Index, usize, Index),
    Other(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), select(SNIPPETS.to_vec())).prop_map(|(at, text)| Damage::Insert(at, text)),
        1 => (at(), any::<char>()).prop_map(|(at, c)| Damage::Character(at, c)),
        2 => (at(), 1..30_usize).prop_map(|(at, len)| Damage::Remove(at, len)),
        2 => (at(), 1..80_usize, at()).prop_map(|(from, len, to)| Damage::Repeat(from, len, to)),
        1 => (at(), at()).prop_map(|(seed, at)| Damage::Other(seed, at)),
    ]
}

impl Damage {
    fn apply(&self, text: &mut Vec<char>) {
        let place = |at: &Index, text: &[char]| at.index(text.len() + 1);
        match self {
            Self::Insert(at, snippet) => {
                let at = place(at, text);
                text.splice(at..at, snippet.chars());
            }
            Self::Character(at, c) => {
                let at = place(at, text);
                text.insert(at, *c);
            }
            Self::Remove(at, len) => {
                let at = place(at, text);
                text.drain(at..(at + len).min(text.len()));
            }
            Self::Repeat(from, len, to) => {
                let from = place(from, text);
                let part = text[from..(from + len).min(text.len())].to_vec();
                let to = place(to, text);
                text.splice(to..to, part);
            }
            Self::Other(seed, at) => {
                let at = place(at, text);
                text.truncate(at);
                text.extend(seed.get(&SEEDS).chars().skip(at));
            }
        }
    }
}

fn survive(template: &str) {
    let config = json!({"chat_template": template, "bos_token": "<bos>", "eos_token": "<eos>"});
    let tokenizer = Tokenizer::from_bytes(&TOKENIZER_JSON, config.to_string().as_bytes()).unwrap();
    let messages = [
        Message::new(Role::System, ""),
        Message::new(Role::User, "why <eos>?\n"),
        Message::new(Role::Assistant, " 1"),
    ];
    let _ = tokenizer.encode_chat(&messages, true);
    let _ = tokenizer.encode_chat_learned(&messages);
    let _ = tokenizer.encode_chat(&[], false);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn damaged_templates_are_survived(seed in any::<Index>(), damage in prop::collection::vec(damage(), 1..6)) {
        let mut text: Vec<char> = seed.get(&SEEDS).chars().collect();
        for damage in damage {
            damage.apply(&mut text);
        }
        survive(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_text_as_a_template_is_survived(
        parts in prop::collection::vec(prop_oneof![select(SNIPPETS.to_vec()).prop_map(str::to_owned), "\\PC{0,12}"], 0..12)
    ) {
        survive(&parts.concat());
    }
}
