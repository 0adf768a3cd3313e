//! Files in the shapes in which datasets are published, and files in no shape at all.
#![cfg(feature = "fs")]

use std::io::Write;
use std::path::{Path, PathBuf};

use mor_text::data::{
    ChatReader, Compression, Document, Documents, Format, Layout, Rows, Schema, TextReader,
};
use mor_text::{TrainOptions, train_tokenizer};
use proptest::prelude::*;

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/formats");
    folder.join(name)
}

/// The rows of a file: of each its source and turns, or the error about it without the folder.
fn rows(path: &Path) -> Vec<Result<String, String>> {
    let rows = Rows::new(&[path.to_owned()]);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    rows.map(|row| match row {
        Ok(row) => {
            let turns = row
                .messages
                .iter()
                .map(|it| format!("{}:{}", it.role, it.content));
            let turns: Vec<_> = turns.collect();
            Ok(format!(
                "{} {}",
                row.source.unwrap_or_default(),
                turns.join("|")
            ))
        }
        Err(error) => {
            let error = error.to_string();
            Err(error[error.find(&name).unwrap_or(0)..].to_owned())
        }
    })
    .collect()
}

fn good(path: &Path) -> Vec<String> {
    rows(path).into_iter().map(Result::unwrap).collect()
}

#[test]
fn sharegpt_with_a_broken_row_a_function_call_and_trailing_commas() {
    let found = rows(&fixture("sharegpt.json"));
    assert_eq!(
        found[..2],
        [
            "sharegpt user:How many legs has a spider?|assistant:Eight.\n\nInsects have six.\
             |user:And a crab?|assistant:Ten, with its claws.",
            "sharegpt assistant:…and that is how bread rises.|user:Thank you! \"Yeast\", then?\
             |assistant:Yes: {yeast].",
        ]
        .map(|row| Ok(row.to_owned()))
    );
    let error = found[2].as_ref().unwrap_err();
    assert!(
        error.starts_with("sharegpt.json:49: a string is not closed"),
        "{error}"
    );
    let error = found[3].as_ref().unwrap_err();
    assert!(
        error.starts_with("sharegpt.json:53: turn 2 of `conversations`: unknown role"),
        "{error}"
    );
    assert_eq!(
        found[4],
        Ok("sharegpt system:Be brief.|user:Hello?".to_owned())
    );
    assert_eq!(found.len(), 5);
}

#[test]
fn the_other_published_shapes() {
    assert_eq!(
        good(&fixture("ultrachat.jsonl")),
        [
            "ultrachat user:How do clouds form?|assistant:Water vapour cools and condenses on dust.\
             |user:Why are they white?|assistant:Their droplets scatter all colours alike.",
            "ultrachat user:What is a fjord?|assistant:A narrow inlet of the sea between cliffs, which a \
             glacier has carved.",
        ]
    );
    assert_eq!(
        good(&fixture("ultrachat-200k.jsonl")),
        ["ultrachat-200k user:Name a noble gas.|assistant:Neon.|user:Another?|assistant:Argon."]
    );
    assert_eq!(
        good(&fixture("hh-rlhf.jsonl")),
        [
            "hh-rlhf user:Can I eat raw rhubarb leaves?|assistant:No, they are poisonous.\n\nThe stalks \
             are fine.|user:How much sugar do they need?|assistant:Some 100 g for each 500 g.",
            "hh-rlhf user:Hello there",
        ]
    );
    assert_eq!(
        good(&fixture("alpaca.json")),
        [
            "alpaca user:Give the opposite of the word.\n\nwarm|assistant:cold",
            "alpaca user:Name the three primary colours.|assistant:Red, yellow and blue.",
        ]
    );
    assert_eq!(
        good(&fixture("single.json")),
        ["single user:One row,|assistant:many lines."]
    );
    let openai = rows(&fixture("openai.jsonl"));
    assert_eq!(
        openai[0],
        Ok("openai system:Be kind.\nBe brief.|user:Hi|assistant:Hello!".to_owned())
    );
    let error = openai[1].as_ref().unwrap_err();
    assert!(
        error.starts_with("openai.jsonl:2: turn 3 of `messages`: unknown role \"tool\""),
        "{error}"
    );
    assert_eq!(openai[2], Ok("sums user:2 + 2?|assistant:4".to_owned()));
}

#[test]
fn neither_name_nor_compression_nor_line_ends_change_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "sharegpt.json",
        "ultrachat.jsonl",
        "ultrachat-200k.jsonl",
        "hh-rlhf.jsonl",
        "alpaca.json",
        "openai.jsonl",
        "single.json",
    ] {
        let expected = rows(&fixture(name));
        let stem = name.split('.').next().unwrap();
        let plain = std::fs::read(fixture(name)).unwrap();
        let text = String::from_utf8(plain.clone()).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        for (name, bytes, compression) in [
            (format!("{stem}.bin"), plain.clone(), Compression::None),
            (format!("{stem}.txt"), plain.clone(), Compression::None),
            (format!("{stem}.jsonl"), plain.clone(), Compression::None),
            (
                format!("{stem}.json.gz"),
                gzip.finish().unwrap(),
                Compression::Gzip,
            ),
            (
                format!("{stem}.txt.zst"),
                ruzstd::encoding::compress_to_vec(&plain[..], level),
                Compression::Zstd,
            ),
            (
                format!("{stem}.data"),
                format!("\u{FEFF}\r\n{}", text.replace('\n', "\r\n")).into_bytes(),
                Compression::None,
            ),
        ] {
            let path = folder.path().join(&name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(Format::open(&path).unwrap().1.compression(), compression);
            let found = rows(&path);
            assert_eq!(found.len(), expected.len(), "{name}");
            for (found, expected) in found.iter().zip(&expected) {
                match expected {
                    Ok(expected) => assert_eq!(found.as_ref(), Ok(expected), "{name}"),
                    Err(_) => assert!(found.as_ref().unwrap_err().starts_with(&name)),
                }
            }
        }
    }
}

#[test]
fn layouts_and_schemas_are_told() {
    let of = |name: &str| {
        let mut reader = ChatReader::open(&fixture(name)).unwrap();
        reader.next().unwrap().unwrap();
        (reader.layout(), reader.schema().unwrap())
    };
    assert_eq!(of("sharegpt.json"), (Layout::Array, Schema::ShareGpt));
    assert_eq!(of("ultrachat.jsonl"), (Layout::Lines, Schema::UltraChat));
    assert_eq!(of("hh-rlhf.jsonl"), (Layout::Lines, Schema::HhRlhf));
    assert_eq!(of("alpaca.json"), (Layout::Array, Schema::Alpaca));
    assert_eq!(of("single.json"), (Layout::Objects, Schema::Messages));
}

#[test]
fn plain_text_is_rows_of_lines_or_one_running_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("poem.txt");
    std::fs::write(&path, "\u{FEFF}one\r\n\r\ntwo\n").unwrap();
    assert_eq!(good(&path), ["poem assistant:one", "poem assistant:two"]);
    let documents: Vec<_> = Documents::new(&[path.clone(), fixture("single.json")])
        .map(Result::unwrap)
        .collect();
    assert!(matches!(&documents[0], Document::Text(piece) if piece.opens
        && piece.text == "one\r\n\r\ntwo\n" && piece.source == "poem"));
    assert!(matches!(&documents[1], Document::Conversation(row) if row.messages.len() == 2));
    assert_eq!(documents.len(), 2);
}

#[test]
fn a_vocabulary_is_learnt_from_any_of_them() {
    let names = [
        "sharegpt.json",
        "hh-rlhf.jsonl",
        "alpaca.json",
        "single.json",
    ];
    let (_, report) = train_tokenizer(&names.map(fixture), &TrainOptions::default()).unwrap();
    assert_eq!(report.malformed, 2);
    assert_eq!(report.texts, 4 + 3 + 2 + 4 + 1 + 2 + 2 + 2);
    assert!(report.first_malformed.unwrap().contains("sharegpt.json:49"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Readers of anything end, without panics, and say of every row what is wrong.
    #[test]
    fn readers_of_anything_end(parts in prop::collection::vec(prop_oneof![
        prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\n", "\r\n", " ", "\u{FEFF}",
            "\"messages\"", "\"role\"", "\"content\"", "\"user\"", "\"data\"", "\"chosen\"",
            "\"\\n\\nHuman: a\\n\\nAssistant: b\"", "\"instruction\"", "\"output\"", "1", "null",
            "{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}]}",
        ]).prop_map(|part| part.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ], 0..60)) {
        let bytes = parts.concat();
        let reader = ChatReader::new(&bytes[..], Path::new("a"));
        for row in reader.take(bytes.len() + 2) {
            match row {
                Ok(row) => prop_assert!(row.messages.iter().all(|it| !it.content.trim().is_empty())),
                Err(error) => prop_assert!(error.is_malformed()),
            }
        }
        prop_assert!(ChatReader::new(&bytes[..], Path::new("a")).count() <= bytes.len() + 1);
        prop_assert!(TextReader::new(&bytes[..], Path::new("a")).count() <= bytes.len() + 1);
        Format::of(Path::new("a"), &bytes);
    }
}
