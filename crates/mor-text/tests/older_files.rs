//! Files beside a tokenizer's two, as older and newer programs write them.

use std::path::Path;

use mor_text::{Message, Role, Tokenizer};
use serde_json::{Value, json};

/// A folder with the small tokenizer, `config` and files beside it.
fn folder(config: Value, files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer");
    let path = |name: &str| folder.path().join(name);
    std::fs::copy(source.join("tokenizer.json"), path("tokenizer.json")).unwrap();
    std::fs::write(path("tokenizer_config.json"), config.to_string()).unwrap();
    for (name, text) in files {
        std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        std::fs::write(path(name), text).unwrap();
    }
    folder
}

/// What the template makes of one question, special tokens by name; or the error.
fn chat(tokenizer: &Tokenizer, content: &str) -> Result<String, String> {
    let messages = [Message::new(Role::User, content)];
    let ids = tokenizer
        .encode_chat(&messages, true)
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8(tokenizer.decode_bytes(&ids, true)).unwrap())
}

const TEMPLATE: &str = "{{ bos_token }}{{ messages[0].content }}{{ sep_token }}";

#[test]
fn a_map_of_special_tokens_is_read() {
    let map = r#"{"bos_token": {"content": "<user>", "lstrip": false}, "sep_token": "<|sep|>"}"#;
    let config = json!({"chat_template": TEMPLATE, "bos_token": "<bos>"});
    let dir = folder(config.clone(), &[("special_tokens_map.json", map)]);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    let ids = tokenizer
        .encode_chat(&[Message::new(Role::User, "hello<|sep|>")], true)
        .unwrap();
    let specials = ids.iter().filter(|id| tokenizer.is_special(**id)).count();
    // The one that the content spells is text.
    assert_eq!(specials, 2);
    assert_eq!(
        chat(&tokenizer, "hello"),
        Ok("<user>hello<|sep|>".to_owned())
    );

    // What is saved holds it all, and nothing of what was there before counts.
    let saved = folder(
        json!({}),
        &[("special_tokens_map.json", r#"{"bos_token": "<assistant>"}"#)],
    );
    tokenizer.save(saved.path()).unwrap();
    let again = Tokenizer::from_dir(saved.path()).unwrap();
    assert_eq!(chat(&again, "hello"), Ok("<user>hello<|sep|>".to_owned()));
    assert_eq!(again.fingerprint(), tokenizer.fingerprint());

    // As in transformers, it does not count beside `added_tokens_decoder`.
    let mut newer = config;
    newer["added_tokens_decoder"] = json!({});
    let dir = folder(newer, &[("special_tokens_map.json", map)]);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(chat(&tokenizer, "hello"), Ok("<bos>hello".to_owned()));
}

#[test]
fn ids_of_added_tokens_are_read() {
    let config = json!({"chat_template": TEMPLATE, "bos_token": "<bos>", "sep_token": "<|sep|>"});
    let next = Tokenizer::from_dir(folder(json!({}), &[]).path())
        .unwrap()
        .vocab_size() as u32;
    let added = json!({"<|sep|>": next + 1, "<think>": next}).to_string();
    let dir = folder(config.clone(), &[("added_tokens.json", &added)]);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("a<think>").unwrap().last(), Some(&next));
    assert!(tokenizer.is_special(next + 1) && !tokenizer.is_special(next));

    let dir = folder(config, &[("added_tokens.json", r#"{"<think>": "x"}"#)]);
    let error = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("added_tokens.json") && error.contains("<think>"),
        "{error}"
    );
}

#[test]
fn templates_of_a_folder_are_read_or_refused() {
    let config = json!({"chat_template": "old", "bos_token": "<bos>"});
    let default = [
        ("additional_chat_templates/default.jinja", "<user>d"),
        ("additional_chat_templates/rag.jinja", "r"),
    ];
    let dir = folder(config.clone(), &default);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(chat(&tokenizer, ""), Ok("<user>d".to_owned()));

    let dir = folder(config.clone(), &default[1..]);
    let error = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("additional_chat_templates") && error.contains("rag.jinja"),
        "{error}"
    );
    // The file beside the folder counts first.
    std::fs::write(dir.path().join("chat_template.jinja"), "<user>f").unwrap();
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(chat(&tokenizer, ""), Ok("<user>f".to_owned()));
}
