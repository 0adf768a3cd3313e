//! Damaged tables, rows and token files give errors: never a panic, and never an allocation that the file's size does
//! not warrant.
//!
//! `MOR_DAMAGE_CASES=100000` in the environment makes as many inputs of each kind.
#![cfg(feature = "fs")]

#[path = "../../mor-import/tests/damage/allocator.rs"]
mod allocator;
#[path = "../../mor-import/tests/damage/mutation.rs"]
mod mutation;

use std::path::Path;

use mor_text::Tokenizer;
use mor_text::data::{ChatReader, Columns, Documents, Format, TableReader};
use mor_text::tokens::{TokenFile, TokenizeOptions, tokenize};

use mutation::survive;

/// Inputs of each kind.
fn cases() -> u32 {
    let asked = std::env::var("MOR_DAMAGE_CASES").ok();
    asked.and_then(|it| it.parse().ok()).unwrap_or(500)
}

#[test]
fn tables() {
    let seeds = [
        "question,answer\nq,a\nr,\"b, \"\"c\"\"\nd\"\n",
        "\u{FEFF}sep=;\r\nid;Frage;Antwort;System\r\n1;Wo?;\"Da,\r\noder dort\";kurz\r\n;;;\r\n",
        "instruction\tinput\toutput\tsource\nx\ty\tz\tw\nx\t\tz\t\n\nlast\t\tone\t",
        "prompt|chosen|rejected\np|\"\n\nHuman: p\n\nAssistant: c\"|r\n\"open|c|r\np|c|r\n",
    ]
    .map(|text| text.as_bytes().to_vec());
    let columns: Columns = "user=id,assistant=System".parse().expect("columns");
    survive(cases(), &seeds, |bytes| {
        Format::of(Path::new("a"), &bytes);
        for columns in [None, Some(&columns)] {
            let Ok(reader) = TableReader::new(&bytes[..], Path::new("a.csv"), columns) else {
                continue;
            };
            let mut count = 0;
            for row in reader {
                count += 1;
                match row {
                    Ok(row) => assert!(row.messages.iter().all(|it| !it.content.trim().is_empty())),
                    Err(error) => assert!(error.is_malformed(), "{error}"),
                }
            }
            assert!(count <= 20 * (bytes.len() + 1), "{count} rows");
        }
    });
}

#[test]
fn rows_of_every_shape() {
    let seeds = [
        r#"{"prompt":[{"role":"user","content":"q"}],"chosen":[{"role":"assistant","content":"a","weight":0}],"rejected":null}"#,
        r#"{"instruction":"q","input":"i","output":"a","system":"s","history":[["x","y"],["z","w"]],"label":true}"#,
        r#"[{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":null,"tool_calls":[{}]}],"chosen":{"from":"gpt","value":"a"}}]"#,
        "\u{FEFF}{\"prompt\":\"\\n\\nHuman: q\\n\\nAssistant:\",\"chosen\":\" a\"}\n\u{FEFF}{\"data\":[\"q\",\"a\"],\"messages\":[]}\n",
    ]
    .map(|text| text.as_bytes().to_vec());
    survive(cases(), &seeds, |bytes| {
        for row in ChatReader::new(&bytes[..], Path::new("a")) {
            match row {
                Ok(row) => assert!(row.messages.iter().all(|it| !it.content.trim().is_empty())),
                Err(error) => assert!(error.is_malformed(), "{error}"),
            }
        }
    });
}

#[test]
fn files_of_any_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data");
    let text = b"question,answer\nq,a\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text).expect("memory");
    let gzip = [gzip.finish().expect("memory"), vec![0; 20]].concat();
    let wide: Vec<u8> = "plain words\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let zstd = ruzstd::encoding::compress_to_vec(&text[..], level);
    let seeds = [
        gzip,
        zstd,
        wide,
        b"PK\x03\x04 PAR1 words".to_vec(),
        text.to_vec(),
    ];
    survive(cases().min(20_000), &seeds, |bytes| {
        std::fs::write(&path, &bytes).expect("written");
        for document in Documents::new(std::slice::from_ref(&path)) {
            let _ = document.is_ok();
        }
    });
}

#[test]
fn token_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer");
    let tokenizer = Tokenizer::from_dir(&tokenizer).expect("the sample tokenizer");
    let row = |question: &str, answer: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"{question}"}},{{"role":"assistant","content":"{answer}"}}]}}"#
        )
    };
    let seeds = [
        (
            "a.jsonl",
            format!("{}\n{}\n", row("q", "a"), row("longer", "answer")),
        ),
        ("b.txt", "A line of text.\nAnother.\n".to_owned()),
    ]
    .map(|(name, text)| {
        std::fs::write(path(name), text).expect("written");
        let options = TokenizeOptions::default();
        tokenize(&[path(name)], &tokenizer, &path("seed"), &options, |_| ()).expect("whole");
        std::fs::read(path("seed")).expect("written")
    });
    let damaged = path("damaged");
    survive(cases(), &seeds, |bytes| {
        std::fs::write(&damaged, &bytes).expect("written");
        let Ok(file) = TokenFile::open(&damaged) else {
            return;
        };
        let whole = file.verify().is_ok();
        let (mut ids, mut learned) = (Vec::new(), Vec::new());
        // Damaged entries of an index may all stand for the whole file.
        for document in 0..file.len().min(64) {
            ids.clear();
            learned.clear();
            file.read(document, 0..usize::MAX, &mut ids);
            file.learned(document, 0..usize::MAX, &mut learned);
            assert_eq!(ids.len(), learned.len());
            assert!(ids.len() as u64 <= file.total_tokens());
            assert!(ids.iter().all(|&id| id <= file.largest_id()));
            let _ = (
                file.bytes(document),
                file.source(document),
                file.is_text(document),
            );
        }
        let _ = (file.beyond(4), whole);
    });
}
