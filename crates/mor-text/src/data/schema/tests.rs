//! Rows of every shape, and what is wrong with others.

use super::*;
use serde_json::json;

/// The turns of a row, each as its role's first letter and its content.
fn read(row: Value) -> Result<(Vec<String>, Schema), String> {
    let row = conversation(row)?;
    let turn = |it: &Message| {
        let weight = if it.learned { "" } else { "0" };
        format!("{}{weight}:{}", &it.role.as_str()[..1], it.content)
    };
    let turns = row.conversation.messages.iter().map(turn);
    Ok((turns.collect(), row.schema))
}

fn turns_of(row: Value) -> Vec<String> {
    read(row).unwrap().0
}

fn error_of(row: Value) -> String {
    read(row).unwrap_err()
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

#[test]
fn questions_and_answers_go_by_many_names() {
    for (row, turns) in [
        (json!({ "question": "q", "answer": "a" }), ["u:q", "a:a"]),
        (json!({ "prompt": "q", "completion": "a" }), ["u:q", "a:a"]),
        (json!({ "user": "q", "assistant": "a" }), ["u:q", "a:a"]),
        (json!({ "frage": "q", "antwort": "a" }), ["u:q", "a:a"]),
        (json!({ "input": "q", "output": "a" }), ["u:q", "a:a"]),
        (
            json!({ "instruction": "q", "context": "c", "response": "a", "category": "x" }),
            ["u:q\n\nc", "a:a"],
        ),
        (
            json!({ "instruction": "", "input": "i", "output": "a" }),
            ["u:i", "a:a"],
        ),
        (
            json!({ "prompt": [{ "role": "user", "content": "q" }],
                "completion": [{ "role": "assistant", "content": "a" }] }),
            ["u:q", "a:a"],
        ),
        (
            json!({ "prompt": "q", "completion": "a", "label": true }),
            ["u:q", "a:a"],
        ),
    ] {
        assert_eq!(turns_of(row), turns);
    }
    let row = json!({ "prompt": "q", "completion": "a", "label": false });
    assert!(error_of(row).contains("not wanted"));
    let row = json!({ "question": "q", "answer": 2 });
    assert!(error_of(row).contains("`answer` is a number"));
    assert!(error_of(json!({ "question": "q" })).contains("it has `question`"));
}

#[test]
fn a_preferred_answer_keeps_its_question() {
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let (q, a) = (turn("user", "q"), turn("assistant", "a"));
    for row in [
        json!({ "prompt": [q], "chosen": [a], "rejected": [a] }),
        json!({ "prompt": "q", "chosen": [a] }),
        json!({ "prompt": "q", "chosen": "a", "rejected": "b" }),
        json!({ "question": "q", "chosen": "a" }),
        json!({ "prompt": "q", "chosen": a }),
        json!({ "conversations": [{ "from": "human", "value": "q" }], "chosen": { "from": "gpt", "value": "a" } }),
        // The whole conversation in both.
        json!({ "prompt": "q ", "chosen": [q, a] }),
        json!({ "prompt": "q", "chosen": [q, a], "messages": [q, a] }),
        json!({ "prompt": "q", "messages": [a] }),
        json!({ "prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "a" }),
        json!({ "prompt": "q", "chosen": "\n\nHuman: q\n\nAssistant: a" }),
    ] {
        assert_eq!(turns_of(row.clone()), ["u:q", "a:a"], "{row}");
    }
    let row = json!({ "instruction": "q", "input": "i", "history": [["x", "y"]], "chosen": "a" });
    assert_eq!(turns_of(row), ["u:x", "a:y", "u:q\n\ni", "a:a"]);
    let row = json!({ "system": "s", "question": "q", "chosen": "a" });
    assert_eq!(turns_of(row), ["s:s", "u:q", "a:a"]);
    let other = json!({ "prompt": "another", "chosen": [q, a] });
    assert!(error_of(other).contains("another question"));
}

#[test]
fn system_and_history_are_turns() {
    let row = json!({ "instruction": "q", "output": "a", "system": "s", "history": [["x", "y"], ["z", "w"]] });
    assert_eq!(
        turns_of(row),
        ["s:s", "u:x", "a:y", "u:z", "a:w", "u:q", "a:a"]
    );
    let row = json!({ "question": "q", "response": "a", "system_prompt": "s", "history": [] });
    assert_eq!(turns_of(row), ["s:s", "u:q", "a:a"]);
    let turns = json!([{ "role": "system", "content": "s" }, { "role": "user", "content": "q" }]);
    for key in ["messages", "conversations", "conversation"] {
        // Said once, though it stands in both places; and other instructions are joined.
        assert_eq!(
            turns_of(json!({ "system": "s", key: turns })),
            ["s:s", "u:q"]
        );
        assert_eq!(
            turns_of(json!({ "system": "t", key: turns })),
            ["s:t\ns", "u:q"]
        );
        assert_eq!(
            turns_of(json!({ "system": " ", key: turns })),
            ["s:s", "u:q"]
        );
    }
    let row = json!({ "system": "s", "data": ["q", "a"] });
    assert_eq!(turns_of(row), ["s:s", "u:q", "a:a"]);
    for (history, reason) in [
        (json!([["x"]]), "turn 1 of `history` is no"),
        (json!("x"), "`history` is text"),
        (json!([["x", "y"], ["x", null]]), "turn 2 of `history`"),
    ] {
        let row = json!({ "instruction": "q", "output": "a", "history": history });
        assert!(error_of(row).contains(reason));
    }
    let row = json!({ "system": 1, "messages": turns });
    assert!(error_of(row).contains("`system` is a number"));
}

#[test]
fn null_and_empty_columns_are_absent() {
    let chat = json!([{ "from": "human", "value": "q", "role": null, "content": null },
        { "from": "gpt", "value": "a", "role": null, "content": null, "tool_calls": null, "weight": null }]);
    for row in [
        json!({ "messages": null, "conversations": chat, "chosen": null, "system": null, "history": null }),
        json!({ "messages": [], "conversations": chat, "data": [] }),
        json!({ "messages": null, "instruction": "q", "input": null, "output": "a", "question": null }),
        json!({ "instruction": null, "question": "q", "answer": "a", "label": null }),
        json!({ "chosen": [], "data": ["q", "a"], "prompt": null }),
    ] {
        assert_eq!(turns_of(row), ["u:q", "a:a"]);
    }
    // Without its question an answer is no row.
    let row = json!({ "instruction": null, "output": "a", "messages": null });
    assert!(error_of(row).contains("it has `output`"));
}

#[test]
fn a_turn_that_calls_a_tool_is_not_blank() {
    let row = |turn: Value| json!({ "messages": [{ "role": "user", "content": "q" }, turn] });
    for turn in [
        json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "1" }] }),
        json!({ "role": "assistant", "content": "Let me see.", "tool_calls": [{ "id": "1" }] }),
        json!({ "role": "assistant", "function_call": { "name": "w" } }),
    ] {
        assert!(error_of(row(turn)).starts_with("turn 2 of `messages`: it calls a tool"));
    }
    let turn = json!({ "role": "assistant", "content": null, "refusal": "No." });
    assert!(error_of(row(turn)).contains("no content but `refusal`"));
    let turn = json!({ "role": "assistant", "content": "a", "tool_calls": [], "refusal": null });
    assert_eq!(turns_of(row(turn)), ["u:q", "a:a"]);
}

#[test]
fn messages_of_weight_0_are_not_learned() {
    let turn = |role: &str, content: &str, weight: Value| json!({ "role": role, "content": content, "weight": weight });
    let rows = |turns: &[Value]| read(json!({ "messages": turns })).map(|it| it.0);
    let (q, a) = (
        turn("user", "q", Value::Null),
        turn("assistant", "a", json!(0)),
    );
    let b = turn("assistant", "b", json!(1.0));
    assert_eq!(
        rows(&[q.clone(), a.clone(), q.clone(), b.clone()]).unwrap(),
        ["u:q", "a0:a", "u:q", "a:b"]
    );
    assert_eq!(
        rows(&[q.clone(), a.clone(), a.clone()]).unwrap(),
        ["u:q", "a0:a\na"]
    );
    assert!(rows(&[q.clone(), a, b]).unwrap_err().contains("weight 0"));
    for (weight, reason) in [
        (json!(0.5), "its weight is 0.5"),
        (json!("0"), "its weight is text"),
    ] {
        let turns = [q.clone(), turn("assistant", "a", weight)];
        assert!(rows(&turns).unwrap_err().contains(reason));
    }
}

#[test]
fn fields_that_are_not_used_are_named() {
    let row = json!({ "id": 1, "rejected": "b", "prompt": "q", "chosen": "a", "score": null, "source": 3 });
    let mut unused = conversation(row).unwrap().unused.0;
    unused.sort();
    assert_eq!(unused, ["id", "rejected", "source"]);
    let row = json!({ "messages": [{ "role": "user", "name": "x", "content": "q" }, { "role": "user", "name": "y", "content": "q" }] });
    assert_eq!(conversation(row).unwrap().unused.0, ["messages[].name"]);
}

#[test]
fn roles_and_keys_are_shown_without_control_characters() {
    let error = error_of(json!({ "messages": [{ "role": "\u{1b}[31mred\n", "content": "" }] }));
    assert!(
        error.contains("unknown role \"\\u{1b}[31mred\\n\""),
        "{error}"
    );
    let error = error_of(json!({ "\u{9b}31m\u{7}": 1, "x".repeat(200): 1 }));
    assert!(
        !error.contains(char::is_control) && error.len() < 400,
        "{error}"
    );
}
