//! Token files: what goes in comes out, and no damaged file does harm.
#![cfg(feature = "fs")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use mor_text::tokens::{
    EncodedDocument, TokenFile, TokenFileWriter, TokenizeOptions, TokenizeReport, tokenize,
};
use mor_text::{Message, Result, Role, TextError, Tokenizer, TrainOptions, train_tokenizer};
use proptest::prelude::*;

mod damage;

/// A vocabulary of the single bytes and a few merges.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("a.txt");
    std::fs::write(&text, "question answer ".repeat(9)).unwrap();
    let options = TrainOptions {
        vocab_size: 290,
        ..TrainOptions::default()
    };
    train_tokenizer(&[text], &options).unwrap().0
});

/// A folder with the files that tests write.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn output(&self) -> PathBuf {
        self.0.path().join("out.tokens")
    }

    fn tokenize(&self, inputs: &[PathBuf], options: &TokenizeOptions) -> Result<TokenizeReport> {
        tokenize(inputs, &TOKENIZER, &self.output(), options, |_| ())
    }
}

fn row(question: &str, answer: &str) -> String {
    let messages = [("user", question), ("assistant", answer)]
        .map(|(role, content)| serde_json::json!({ "role": role, "content": content }));
    format!(
        "{}\n",
        serde_json::json!({ "messages": messages, "source": "s" })
    )
}

/// Ids and learned bits of a whole document.
fn document(file: &TokenFile, document: usize) -> (Vec<u32>, Vec<bool>) {
    let (mut ids, mut learned) = (Vec::new(), Vec::new());
    file.read(document, 0..usize::MAX, &mut ids);
    file.learned(document, 0..usize::MAX, &mut learned);
    assert_eq!(
        (ids.len(), learned.len()),
        (file.tokens_of(document), ids.len())
    );
    (ids, learned)
}

#[test]
fn conversations_and_texts_come_back_in_the_order_of_the_inputs() {
    let folder = Folder::new();
    let rows: String = (0..300)
        .map(|n| row(&format!("q{n}"), &"a".repeat(n % 7 + 1)))
        .collect();
    let text = "\u{FEFF}one line\r\n".to_owned() + &"and é another\r\n".repeat(9000);
    let inputs = [
        folder.write("rows.jsonl", rows + "broken\n" + &row("q", " ")),
        folder.write("book.txt", &text),
    ];
    let mut progress = Vec::new();
    let report = tokenize(
        &inputs,
        &TOKENIZER,
        &folder.output(),
        &TokenizeOptions::default(),
        |at| progress.push(at.documents),
    )
    .unwrap();
    let file = TokenFile::open(&folder.output()).unwrap();
    file.verify().unwrap();

    assert_eq!((report.malformed, report.unanswered), (1, 1));
    assert_eq!((file.malformed(), file.unanswered()), (1, 1));
    assert!(report.first_problem.unwrap().contains("rows.jsonl:301: "));
    assert_eq!(file.sources(), ["s", "book"]);
    assert_eq!(file.tokenizer(), TOKENIZER.fingerprint());
    for number in 0..300 {
        let answer = "a".repeat(number % 7 + 1);
        let messages = [
            Message::new(Role::User, format!("q{number}")),
            Message::new(Role::Assistant, &answer),
        ];
        let expected = TOKENIZER.encode_chat_learned(&messages).unwrap();
        assert_eq!(document(&file, number), expected);
        assert_eq!(
            file.bytes(number) as usize,
            messages[0].content.len() + answer.len()
        );
        assert!(!file.is_text(number) && file.source(number) == 0);
    }
    let mut ids = Vec::new();
    for piece in 300..file.len() {
        assert!(file.is_text(piece) && file.source(piece) == 1);
        let (piece, learned) = document(&file, piece);
        assert!(learned.iter().all(|&learned| learned));
        ids.extend(piece);
    }
    assert_eq!(ids[0], TOKENIZER.bos_id().unwrap());
    assert!(
        !ids[1..].contains(&ids[0]),
        "only the first piece opens the text"
    );
    assert_eq!(TOKENIZER.decode(&ids), text[3..]);
    assert!(file.len() > 302, "long texts are several documents");

    let all = (0..file.len()).map(|it| (file.tokens_of(it) as u64, u64::from(file.bytes(it))));
    let (tokens, bytes) = all.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    assert_eq!((file.total_tokens(), file.total_bytes()), (tokens, bytes));
    assert_eq!((report.tokens, report.bytes), (tokens, bytes));
    assert_eq!(report.documents, file.len() as u64);
    let largest = (0..file.len()).flat_map(|it| document(&file, it).0).max();
    assert_eq!(file.largest_id(), largest.unwrap());
    assert!(progress.len() <= file.len(), "told once a chunk");
    assert_eq!(
        std::fs::read_dir(folder.0.path()).unwrap().count(),
        3,
        "no temporary files"
    );
}

#[test]
fn parts_of_documents_and_what_lies_beyond_them() {
    let folder = Folder::new();
    let input = folder.write("a.jsonl", row("question", "answer") + &row("x", "y"));
    folder
        .tokenize(&[input], &TokenizeOptions::default())
        .unwrap();
    let file = TokenFile::open(&folder.output()).unwrap();
    let (ids, learned) = document(&file, 0);
    for start in 0..ids.len() + 2 {
        for end in start..ids.len() + 2 {
            let (mut part, mut bits) = (vec![7], vec![true]);
            file.read(0, start..end, &mut part);
            file.learned(0, start..end, &mut bits);
            let expected = &ids[start.min(ids.len())..end.min(ids.len())];
            assert_eq!((part[0], &part[1..]), (7, expected));
            assert_eq!(bits[1..], learned[start.min(ids.len())..end.min(ids.len())]);
        }
    }
    for beyond in [2, 3, usize::MAX / 16, usize::MAX] {
        assert_eq!(document(&file, beyond), (vec![], vec![]));
        assert_eq!((file.bytes(beyond), file.source(beyond)), (0, 0));
    }
}

#[test]
fn the_same_input_gives_the_same_file_and_a_changed_one_is_noticed() {
    let folder = Folder::new();
    let inputs = [folder.write("a.jsonl", row("q", "a") + &row("r", "b"))];
    let options = TokenizeOptions::default();
    folder.tokenize(&inputs, &options).unwrap();
    let first = std::fs::read(folder.output()).unwrap();
    let file = TokenFile::open(&folder.output()).unwrap();
    assert!(file.is_current(&inputs, &TOKENIZER, None));
    assert!(!file.is_current(&inputs, &TOKENIZER, Some(1)));
    assert!(!file.is_current(&[], &TOKENIZER, None));
    folder.tokenize(&inputs, &options).unwrap();
    assert_eq!(std::fs::read(folder.output()).unwrap(), first);

    let limited = TokenizeOptions {
        limit: Some(1),
        ..options
    };
    folder.tokenize(&inputs, &limited).unwrap();
    let short = TokenFile::open(&folder.output()).unwrap();
    assert_eq!((short.len(), short.limit()), (1, Some(1)));
    assert_ne!(short.fingerprint(), file.fingerprint());

    folder.write("a.jsonl", row("q", "a") + &row("r", "longer"));
    assert!(!file.is_current(&inputs, &TOKENIZER, None));
}

#[test]
fn a_file_of_the_same_size_and_time_is_another_one_and_the_same_contents_at_another_time_are_not() {
    let folder = Folder::new();
    let inputs = [folder.write("a.jsonl", row("q", "a"))];
    folder
        .tokenize(&inputs, &TokenizeOptions::default())
        .unwrap();
    let file = TokenFile::open(&folder.output()).unwrap();
    let time = inputs[0].metadata().unwrap().modified().unwrap();
    let set_time = |time| {
        let input = std::fs::File::options().append(true).open(&inputs[0]);
        input.unwrap().set_modified(time).unwrap();
    };
    set_time(time + std::time::Duration::from_secs(9));
    assert!(file.is_current(&inputs, &TOKENIZER, None));
    folder.write("a.jsonl", row("q", "b"));
    set_time(time);
    assert!(!file.is_current(&inputs, &TOKENIZER, None));
}

#[test]
fn failures_name_the_row_and_leave_no_file() {
    let folder = Folder::new();
    let fail = |name: &str, text: &[u8], strict| {
        let input = folder.write(name, text);
        let options = TokenizeOptions {
            strict,
            ..TokenizeOptions::default()
        };
        let error = folder.tokenize(&[input], &options).unwrap_err().to_string();
        assert!(!folder.output().exists());
        error
    };
    let rows = row("q", "a") + "{\n" + &row("r", "b");
    assert!(fail("a.jsonl", rows.as_bytes(), true).contains("a.jsonl:2: "));
    let error = fail("a.jsonl", b"{}\n{}\n", false);
    assert!(
        error.contains("of its rows, 2 malformed, the first: ") && error.contains("a.jsonl:1: ")
    );
    let question = "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}\n";
    let error = fail("a.jsonl", question.as_bytes(), false);
    assert!(error.ends_with("a.jsonl: nothing to learn from: of its rows, 1 without an answer"));
    let none = TokenizeOptions {
        limit: Some(0),
        ..TokenizeOptions::default()
    };
    let error = folder
        .tokenize(&[folder.write("b.txt", "text")], &none)
        .unwrap_err();
    assert!(matches!(error, TextError::Option(_)), "{error}");
    assert!(fail("a.txt", b"", false).contains("a.txt has no text"));
    assert!(fail("a.txt", b"abc\xFF", false).contains("a.txt: not UTF-8 at byte 3;"));
    let error = folder.tokenize(&["none.txt".into()], &TokenizeOptions::default());
    assert!(matches!(error, Err(TextError::Io { path, .. }) if path == Path::new("none.txt")));
}

#[test]
fn messages_of_weight_0_keep_their_place_and_are_not_learned() {
    let folder = Folder::new();
    let rows = row("q", "a")
        + "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},\
        {\"role\":\"assistant\",\"content\":\"no\",\"weight\":0},{\"role\":\"user\",\"content\":\"r\"},\
        {\"role\":\"assistant\",\"content\":\"yes\"}]}\n";
    let input = folder.write("a.jsonl", rows);
    folder
        .tokenize(&[input], &TokenizeOptions::default())
        .unwrap();
    let file = TokenFile::open(&folder.output()).unwrap();
    assert!(!file.is_weighted(0) && file.is_weighted(1) && !file.is_text(1));
    let (ids, learned) = document(&file, 1);
    let learned = ids.iter().zip(learned).filter(|(_, learned)| *learned);
    let learned: Vec<u32> = learned.map(|(&id, _)| id).collect();
    assert_eq!(
        String::from_utf8(TOKENIZER.decode_bytes(&learned, true)).unwrap(),
        "yes<eos>"
    );
    let all = String::from_utf8(TOKENIZER.decode_bytes(&ids, true)).unwrap();
    assert!(all.contains("<assistant>no<eos>"), "{all}");
    assert_eq!(file.beyond(ids.len() - 2), (1, 1));
    assert_eq!(file.beyond(ids.len() - 1), (0, 0));

    let never = "{\"messages\":[{\"role\":\"assistant\",\"content\":\"no\",\"weight\":0}]}\n";
    let input = folder.write("b.jsonl", never);
    let error = folder
        .tokenize(&[input], &TokenizeOptions::default())
        .unwrap_err();
    assert!(error.to_string().contains("1 without an answer"), "{error}");
}

#[test]
fn large_vocabularies_take_four_bytes_a_token() {
    let folder = Folder::new();
    TOKENIZER.save(folder.0.path()).unwrap();
    let read = |name: &str| std::fs::read(folder.0.path().join(name)).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&read("tokenizer.json")).unwrap();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    let size = vocab.len() as u32;
    for id in size..70_000 {
        vocab.insert(format!("Ġ{}", id_letters(id)), id.into());
    }
    let json = serde_json::to_vec(&json).unwrap();
    let large = Tokenizer::from_bytes(&json, &read("tokenizer_config.json")).unwrap();
    assert_eq!(large.vocab_size(), 70_000);

    let ids = [69_999, 0, 65_536];
    for (tokenizer, width) in [(&large, 4), (&*TOKENIZER, 2)] {
        let mut writer = TokenFileWriter::create(&folder.output(), tokenizer).unwrap();
        let pushed = writer.push(&EncodedDocument {
            ids: &ids,
            learned: &[true, false, true],
            bytes: 5,
            source: "s",
            is_text: false,
            is_weighted: false,
        });
        if width == 2 {
            assert!(
                pushed
                    .unwrap_err()
                    .to_string()
                    .contains("id 69999 is outside")
            );
            continue;
        }
        pushed.unwrap();
        writer.finish().unwrap();
        let file = TokenFile::open(&folder.output()).unwrap();
        assert_eq!(document(&file, 0), (ids.to_vec(), vec![true, false, true]));
        assert_eq!(file.largest_id(), 69_999);
    }
}

/// A number in letters.
fn id_letters(mut id: u32) -> String {
    let mut letters = String::new();
    while id > 0 {
        letters.push((b'A' + (id % 26) as u8) as char);
        id /= 26;
    }
    letters
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_documents_come_back(
        documents in prop::collection::vec(
            (prop::collection::vec((0u32..290, any::<bool>()), 0..40), any::<bool>(), 0usize..9),
            0..20,
        ),
    ) {
        let folder = Folder::new();
        let mut writer = TokenFileWriter::create(&folder.output(), &TOKENIZER).unwrap();
        for (tokens, is_text, bytes) in &documents {
            let (ids, learned): (Vec<u32>, Vec<bool>) = tokens.iter().copied().unzip();
            let source = format!("s{}", bytes % 3);
            writer.push(&EncodedDocument {
                ids: &ids, learned: &learned, bytes: *bytes, source: &source, is_text: *is_text, is_weighted: false,
            }).unwrap();
        }
        writer.finish().unwrap();
        let file = TokenFile::open(&folder.output()).unwrap();
        file.verify().unwrap();
        prop_assert_eq!(file.len(), documents.len());
        for (number, (tokens, is_text, bytes)) in documents.iter().enumerate() {
            let expected: (Vec<u32>, Vec<bool>) = tokens.iter().copied().unzip();
            prop_assert_eq!(document(&file, number), expected);
            prop_assert_eq!(file.is_text(number), *is_text);
            prop_assert_eq!(file.bytes(number) as usize, *bytes);
            let source = &file.sources()[usize::from(file.source(number))];
            prop_assert_eq!(source, &format!("s{}", bytes % 3));
        }
    }
}
