//! Added tokens: the ids of the `tokenizers` crate for the whole text.

use std::path::Path;
use std::sync::LazyLock;

use mor_text::{Message, Role, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Name, special, lstrip, rstrip, single_word, normalized.
type Added = (&'static str, bool, bool, bool, bool, bool);

/// Tokens with every flag, some inside others.
const ADDED: [Added; 12] = [
    ("  ", false, false, false, false, false),
    ("    ", false, false, false, false, false),
    ("<think>", false, false, false, false, false),
    ("<left>", false, true, false, false, false),
    ("<right>", false, false, true, false, true),
    ("<both>", false, true, true, false, true),
    ("word", false, false, false, true, false),
    ("words", false, false, false, false, true),
    ("日本", false, false, false, true, true),
    ("<mask>", true, true, false, false, false),
    ("<sep>", true, false, true, false, false),
    ("<end>", true, true, true, true, true),
];

/// The small tokenizer with `ADDED`, after `change`.
fn file(change: impl Fn(&mut Value)) -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer/tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (id, (content, special, lstrip, rstrip, single_word, normalized)) in (512..).zip(ADDED) {
        json["added_tokens"].as_array_mut().unwrap().push(json!({
            "id": id, "content": content, "special": special, "lstrip": lstrip, "rstrip": rstrip,
            "single_word": single_word, "normalized": normalized,
        }));
    }
    change(&mut json);
    json.to_string()
}

struct Pair {
    ours: Tokenizer,
    /// Special tokens are text.
    text: tokenizers::Tokenizer,
    markup: tokenizers::Tokenizer,
}

impl Pair {
    fn new(change: impl Fn(&mut Value)) -> Self {
        let json = file(change);
        let ours = Tokenizer::from_bytes(json.as_bytes(), b"{}").unwrap();
        let theirs = || json.parse::<tokenizers::Tokenizer>().unwrap();
        let mut text = theirs();
        text.set_encode_special_tokens(true);
        Self {
            ours,
            text,
            markup: theirs(),
        }
    }

    fn check(&self, text: &str) -> Result<(), TestCaseError> {
        let ids =
            |theirs: &tokenizers::Tokenizer| theirs.encode(text, false).unwrap().get_ids().to_vec();
        prop_assert_eq!(
            self.ours.encode(text).unwrap(),
            ids(&self.text),
            "{:?}",
            text
        );
        prop_assert_eq!(
            self.ours.encode_markup(text).unwrap(),
            ids(&self.markup),
            "{:?}",
            text
        );
        Ok(())
    }
}

static PLAIN: LazyLock<Pair> = LazyLock::new(|| Pair::new(|_| ()));
static COMPOSED: LazyLock<Pair> =
    LazyLock::new(|| Pair::new(|json| json["normalizer"] = json!({"type": "NFC"})));

fn text() -> impl Strategy<Value = String> {
    let names = ADDED.map(|token| token.0).to_vec();
    let other = vec![
        " ", "\n", "\t", "a", "s", "_", "e\u{301}", "\u{301}", "\u{a0}", "<", "word", "½", "本",
        "\u{203f}", "日", "<user>", "7",
    ];
    let piece = prop_oneof![3 => prop::sample::select(names), 3 => prop::sample::select(other)];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn ids_are_those_of_the_tokenizers_crate(text in text()) {
        PLAIN.check(&text)?;
        COMPOSED.check(&text)?;
    }
}

#[test]
fn special_tokens_of_a_template_take_white_space_with_them() {
    let template = "{% for m in messages %}<sep>\n{{ m.content }} <mask>{% endfor %}";
    let config = json!({"chat_template": template}).to_string();
    let tokenizer = Tokenizer::from_bytes(file(|_| ()).as_bytes(), config.as_bytes()).unwrap();
    let id = |name: &str| tokenizer.token_id(name).unwrap();
    let chat = |content: &str| {
        tokenizer
            .encode_chat(&[Message::new(Role::User, content)], true)
            .unwrap()
    };
    let text = |text: &str| tokenizer.encode(text).unwrap();
    assert_eq!(
        chat("x"),
        [vec![id("<sep>")], text("x"), vec![id("<mask>")]].concat()
    );
    assert_eq!(chat("\t"), [id("<sep>"), id("<mask>")]);
    assert_eq!(
        chat("<sep>  <think>"),
        [
            vec![id("<sep>")],
            text("<sep>"),
            vec![id("  "), id("<think>"), id("<mask>")]
        ]
        .concat()
    );
    assert!(text("<sep>").len() > 1 && text("a<think>  b").len() == 4);
}

/// What other programs write differently and means the same.
#[test]
fn equivalent_files_are_accepted() {
    let plain = Tokenizer::from_bytes(file(|_| ()).as_bytes(), b"{}").unwrap();
    let expected = plain.encode("Some text: é 12").unwrap();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let changes: [&dyn Fn(&mut Value); 4] = [
        &|json| json["decoder"] = json!({"type": "Sequence", "decoders": [byte_level]}),
        &|json| {
            json["decoder"] =
                json!({"type": "Sequence", "decoders": [byte_level, {"type": "Fuse"}]})
        },
        &|json| json["normalizer"] = json!({"type": "Sequence", "normalizers": []}),
        &|json| json["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "NFC"}]}),
    ];
    for change in changes {
        let tokenizer = Tokenizer::from_bytes(file(change).as_bytes(), b"{}").unwrap();
        assert_eq!(tokenizer.encode("Some text: é 12").unwrap(), expected);
        assert_eq!(tokenizer.decode(&expected), "Some text: é 12");
    }
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    let tokenizer = Tokenizer::from_bytes(&marked(&file(|_| ())), &marked("{}")).unwrap();
    assert_eq!(tokenizer.encode("Some text: é 12").unwrap(), expected);
}
