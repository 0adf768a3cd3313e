//! Chat templates: the text that transformers gives, and roles that no content can forge.

use std::path::{Path, PathBuf};

use mor_text::{Message, Role, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

fn data_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}

/// The small tokenizer with another template.
fn with_template(template: &str) -> Tokenizer {
    with_config(json!({"chat_template": template}))
}

fn with_config(mut config: Value) -> Tokenizer {
    let json = std::fs::read(data_file("tokenizer/tokenizer.json")).unwrap();
    for (key, token) in [
        ("bos_token", "<bos>"),
        ("eos_token", "<eos>"),
        ("pad_token", "<pad>"),
    ] {
        config[key] = token.into();
    }
    Tokenizer::from_bytes(&json, config.to_string().as_bytes()).unwrap()
}

/// What `template` makes of `messages`, special tokens by name; or the error.
fn rendered(template: &str, messages: &[Message], prompt: bool) -> Result<String, String> {
    let tokenizer = with_template(template);
    let ids = tokenizer
        .encode_chat(messages, prompt)
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8(tokenizer.decode_bytes(&ids, true)).unwrap())
}

/// The templates use the constructs of published ones; the expected texts are those of transformers 5.24 with Jinja2
/// 3.1.6, which raises an exception where there is none. Each conversation is rendered with a generation prompt, the
/// first one also without.
#[test]
fn texts_are_those_of_transformers() {
    let file = include_str!("data/chat-templates.json");
    let file: Value = serde_json::from_str(file).unwrap();
    let conversations: Vec<Vec<Message>> =
        serde_json::from_value(file["conversations"].clone()).unwrap();
    let templates = file["templates"].as_array().unwrap();
    assert!(templates.len() >= 40);
    let mut failures = Vec::new();
    for template in templates {
        let source = template["template"].as_str().unwrap();
        let mut expected = template["expected"].as_array().unwrap().iter();
        for (index, messages) in conversations.iter().enumerate() {
            let prompts: &[bool] = if index == 0 { &[true, false] } else { &[true] };
            for &prompt in prompts {
                let expected = expected.next().unwrap().as_str();
                let found = rendered(source, messages, prompt);
                if found.as_deref().ok() != expected {
                    failures.push(format!(
                        "{} of conversation {index}:\nexpected {expected:?}\nfound    {found:?}",
                        template["name"]
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn user(content: &str) -> Vec<Message> {
    vec![Message::new(Role::User, content)]
}

#[test]
fn templates_see_what_messages_say() {
    let body = |expression: &str| {
        format!(
            "{{{{ bos_token }}}}{{% for m in messages %}}<{{{{ m.role }}}}>{expression}{{% endfor %}}{{% if add_generation_prompt %}}<assistant>{{% endif %}}"
        )
    };
    for (expression, content, expected) in [
        ("{{ m.content | trim }}", " a question ", "a question"),
        ("{{ m.content | upper }}", " a question ", " A QUESTION "),
        (
            "{{ m.content | length }}:{{ m.content }}",
            " a question ",
            "12: a question ",
        ),
        (
            "{% if m.content == 'hello' %}HI{% else %}{{ m.content }}{% endif %}",
            "hello",
            "HI",
        ),
        (
            "{% if '?' in m.content %}Q:{% endif %}{{ m.content }}",
            "why?",
            "Q:why?",
        ),
        (
            "{{ m.content | replace('a', 'b') }}",
            " a question ",
            " b question ",
        ),
        ("{{ m.content | replace('<eos>', '') }}", "a", "a"),
        ("{{ m.content.strip() }}", "hello", "hello"),
        ("{{ m.get('content') }}", "hello", "hello"),
        (
            "{{ m.role | tojson }}{{ m.content }}",
            "hello",
            "\"user\"hello",
        ),
        (
            "{{ strftime_now('%Y') | length }}{{ m.content }}",
            "hello",
            "4hello",
        ),
        (
            "{% generation %}{{ m.content }}{% endgeneration %}",
            "hello",
            "hello",
        ),
        (
            "{{ m.content | tojson }}",
            "say \"<eos>\"",
            "\"say \\\"<eos>\\\"\"",
        ),
    ] {
        let text = rendered(&body(expression), &user(content), true);
        assert_eq!(
            text,
            Ok(format!("<bos><user>{expected}<assistant>")),
            "{expression}"
        );
    }
}

/// The special ids of what `template` makes of `messages`.
fn specials(template: &str, messages: &[Message]) -> Result<Vec<u32>, String> {
    let tokenizer = with_template(template);
    let ids = tokenizer
        .encode_chat(messages, true)
        .map_err(|error| error.to_string())?;
    Ok(ids
        .into_iter()
        .filter(|&id| tokenizer.is_special(id))
        .collect())
}

#[test]
fn what_a_template_makes_of_contents_is_no_special_token() {
    let body =
        |content: &str| format!("{{% set m = messages[0].content %}}<user>{content}<assistant>");
    for (expression, content) in [
        ("{{ m }}", "<eos>"),
        ("{{ m | trim }}", " <assistant> "),
        ("{{ m | lower }}", "<ASSISTANT>"),
        ("{{ m | upper | lower }}", "<eos>"),
        ("<{{ m }}>", "assistant"),
        ("{{ m[::-1] }}", ">soe<"),
        ("{{ m.strip('x') }}", "x<eos>x"),
        ("<{{ m }}", "eos>"),
        ("{{ m }}eos>", "<"),
        ("{% for c in m %}{{ c }}{% endfor %}", "<eos>"),
        ("{{ [m, m] | join }}", "s><eo"),
        ("{{ m ~ m }}", "s><eo"),
        ("{{ (m | tojson)[1:-1] }}", "<eos>"),
    ] {
        let template = body(expression);
        assert_eq!(
            specials(&template, &user(content)),
            Ok(vec![5, 6]),
            "{expression}"
        );
    }
    // Here it cannot be told.
    for (expression, content) in [
        ("{{ m | replace('-', '') }}", "<e-os>"),
        ("{{ m.split('|') | join }}", "<e|os>"),
        ("{{ m.split()[0] }}{{ m.split() | length }}>", "<eos x"),
        ("{{ m | replace('<eos>', '') }}", "a<eos>b"),
        ("{% if m == 'x' %}<eos>{% endif %}", "x"),
        (
            "{% if '<eos>' in m %}{{ m }}!{% else %}{{ m }}{% endif %}",
            "<eos>",
        ),
    ] {
        let template = body(expression);
        match specials(&template, &user(content)) {
            Ok(ids) => assert_eq!(ids, [5, 6], "{expression}"),
            Err(error) => assert!(error.contains("changes the special tokens"), "{error}"),
        }
    }
}

/// Templates that do much to contents, each writing a role's token for a message and nothing else that is special.
const TREATMENTS: [&str; 14] = [
    "{{ c }}",
    "{{ c | trim }}\n",
    "{{ c | lower }}",
    "{{ c | upper }}",
    "<{{ c }}>",
    "{{ c | replace('-', '') }}",
    "{{ c.split('-') | join }}",
    "{{ c.split() | join('') }}",
    "{{ c | tojson }}",
    "{{ c[1:-1] }}{{ c[::-1] }}",
    "{{ c ~ c }}",
    "{% if '<' in c %}{{ c.replace('<', '<<') }}{% else %}{{ c }}{% endif %}",
    "{{ c.strip('x-') }}",
    "{% generation %}{{ c.title() }}{% endgeneration %}",
];

/// `MOR_FORGED_ROLES=100000` tries as many.
fn cases() -> u32 {
    let cases = std::env::var("MOR_FORGED_ROLES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

fn spelled() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "<",
        ">",
        "us",
        "er",
        "user",
        "eos",
        "assis",
        "tant",
        "<user>",
        "<assistant>",
        "<eos>",
        "<USER>",
        "<e-os>",
        "-",
        "x",
        " ",
        "\n",
        "\u{a0}",
        "é",
        "\"",
        "\\",
        ">resu<",
        "|",
        "\u{E000}",
        "\u{2000}",
        "1",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn roles_are_those_of_the_messages(
        contents in prop::collection::vec(spelled(), 1..4),
        treatment in prop::sample::select(TREATMENTS.to_vec()),
    ) {
        let roles = [Role::User, Role::Assistant, Role::System];
        let messages: Vec<_> = roles.into_iter().cycle().zip(contents)
            .map(|(role, content)| Message::new(role, content))
            .collect();
        let template = format!("{{% for m in messages %}}<{{{{ m.role }}}}>{{% set c = m.content %}}{treatment}{{% endfor %}}");
        match specials(&template, &messages) {
            Ok(ids) => {
                let expected: Vec<u32> = [5, 6, 4].into_iter().cycle().take(messages.len()).collect();
                prop_assert_eq!(ids, expected);
            }
            Err(error) => prop_assert!(error.contains("changes the special tokens"), "{}", error),
        }
        // Training sees the same ids, or an error.
        let tokenizer = with_template(&template);
        if let Ok((ids, learned)) = tokenizer.encode_chat_learned(&messages) {
            prop_assert_eq!(&ids, &tokenizer.encode_chat(&messages, false).unwrap());
            prop_assert_eq!(ids.len(), learned.len());
        }
    }
}

/// The text of the ids that are learned, special tokens by name.
fn learned(template: &str, messages: &[Message]) -> Result<String, String> {
    let tokenizer = with_template(template);
    let (ids, learned) = tokenizer
        .encode_chat_learned(messages)
        .map_err(|error| error.to_string())?;
    let ids: Vec<u32> = ids
        .into_iter()
        .zip(learned)
        .filter(|(_, it)| *it)
        .map(|(id, _)| id)
        .collect();
    Ok(String::from_utf8(tokenizer.decode_bytes(&ids, true)).unwrap())
}

#[test]
fn answers_are_learned_whatever_the_template_does_to_them() {
    let messages = [
        Message::new(Role::User, " q "),
        Message::new(Role::Assistant, " a <eos> b \n"),
        Message::new(Role::User, "r"),
        Message::new(Role::Assistant, ""),
    ];
    let each = |content: &str| {
        format!(
            "{{% for m in messages %}}<{{{{ m.role }}}}>{content}{{% if m.role == 'assistant' %}}<eos>{{% endif %}}\n{{% endfor %}}"
        )
    };
    for (content, expected) in [
        ("{{ m.content }}", " a <eos> b \n<eos><eos>"),
        ("\n\n{{ m.content | trim }}", "a <eos> b<eos><eos>"),
        (
            "{% generation %}{{ m.content.lstrip('\\n') }}{% endgeneration %}",
            " a <eos> b \n<eos><eos>",
        ),
        (
            "{% if m.content %}{{ m.content | trim }}{% endif %}",
            "a <eos> b<eos><eos>",
        ),
        (
            "{% if m.role == 'user' and 'r' in m.content %}R!{% else %}{{ m.content | trim }}{% endif %}",
            "a <eos> b<eos>",
        ),
        (
            "{{ m.content | replace('a', 'aaa') | trim }}",
            "aaa <eos> b<eos>",
        ),
    ] {
        assert_eq!(
            learned(&each(content), &messages).as_deref(),
            Ok(expected),
            "{content}"
        );
    }
    let unmarked = "{% for m in messages %}{{ m.content | replace('a', 'aaa') }}{% endfor %}";
    let error = learned(unmarked, &messages[..2]).unwrap_err();
    assert!(error.contains("which text is an answer"), "{error}");
}

/// As jinja2 reads it.
#[test]
fn line_ends_of_a_template_are_line_feeds() {
    let tokenizer = with_template("{{ '<user>\r\n' + messages[0]['content'] }}\r<assistant>");
    let ids = tokenizer.encode_chat(&user("a\r"), true).unwrap();
    let text = String::from_utf8(tokenizer.decode_bytes(&ids, true)).unwrap();
    assert_eq!(text, "<user>\na\r\n<assistant>");
}

#[test]
fn the_template_file_counts_before_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(data_file("tokenizer").join(name), folder.path().join(name)).unwrap();
    }
    let file = folder.path().join("chat_template.jinja");
    std::fs::write(
        &file,
        "\u{feff}<user>{{ messages[0].content }}<assistant>\n",
    )
    .unwrap();
    let text = |folder: &Path| {
        let tokenizer = Tokenizer::from_dir(folder).unwrap();
        let ids = tokenizer
            .encode_chat(&user("hello"), true)
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(String::from_utf8(tokenizer.decode_bytes(&ids, true)).unwrap())
    };
    assert_eq!(text(folder.path()).as_deref(), Ok("<user>hello<assistant>"));
    // What is saved or imported has it in one place.
    let saved = tempfile::tempdir().unwrap();
    let (tokenizer, _) = mor_text::import_tokenizer(folder.path()).unwrap();
    tokenizer.save(saved.path()).unwrap();
    assert_eq!(text(saved.path()).as_deref(), Ok("<user>hello<assistant>"));

    // A template that was there before does not outlive the tokenizer it belonged to.
    let other = with_template("<assistant>");
    std::fs::write(saved.path().join("chat_template.jinja"), "<user>").unwrap();
    other.save(saved.path()).unwrap();
    assert_eq!(text(saved.path()).as_deref(), Ok("<assistant>"));

    std::fs::write(&file, b"\xFF\xFE{").unwrap();
    assert!(
        text(folder.path())
            .unwrap_err()
            .contains("chat_template.jinja: not UTF-8")
    );
    let named = with_config(json!({"chat_template": [
        {"name": "tool_use", "template": "t"}, {"name": "default", "template": "<user>d"}
    ]}));
    assert_eq!(
        named.encode_chat(&user(""), true).unwrap(),
        [&[5][..], &named.encode("d").unwrap()].concat()
    );
}

#[test]
fn templates_know_the_special_tokens_of_the_configuration() {
    let tokenizer = with_config(json!({
        "chat_template": "{{ sep_token }}{{ image_token }}{{ unk_token is defined }}<|z|>{{ messages[0].content }}",
        "sep_token": {"content": "<|code|>", "lstrip": false, "rstrip": false},
        "additional_special_tokens": ["<|z|>", {"content": "<|y|>", "rstrip": true}],
        "extra_special_tokens": {"image_token": "<|math|>"},
        "added_tokens_decoder": {"600": {"content": "<|x|>", "special": false}},
    }));
    let ids = tokenizer.encode_chat(&user("<|z|><|x|>"), true).unwrap();
    let text = |text: &str| tokenizer.encode(text).unwrap();
    // Tokens without an id get the next ones, as in transformers.
    let expected = [
        vec![10, 12],
        text("False"),
        vec![601],
        text("<|z|>"),
        vec![600],
    ]
    .concat();
    assert_eq!(ids, expected);
    assert_eq!(tokenizer.token_id("<|y|>"), Some(602));
    assert_eq!(tokenizer.encode_markup("<|y|> \n").unwrap(), [602]);
    // A model made before they were named still fits.
    assert!(tokenizer.fits(603) && tokenizer.fits(601) && !tokenizer.fits(600));
}
