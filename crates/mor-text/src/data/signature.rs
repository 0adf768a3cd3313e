//! Files that are evidently no text, told by how they begin.

use super::format::opens_row;

/// What a file is that cannot be read, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) name: &'static str,
    pub(super) remedy: &'static str,
}

const TABLES: &str = "convert its rows to JSON lines, for example with DuckDB or pandas";
const UNPACK: &str = "unpack it, and give the files that were in it";
const TEXT_OF: &str = "take the text out of it, or leave it out";
/// UTF-16 and UTF-32 of either order, as `iconv` calls them; where a mark tells the order, without it.
const WIDE: [(&str, &str); 6] = [
    ("UTF-16", "convert it with iconv -f UTF-16 -t UTF-8"),
    ("UTF-16", "convert it with iconv -f UTF-16LE -t UTF-8"),
    ("UTF-16", "convert it with iconv -f UTF-16BE -t UTF-8"),
    ("UTF-32", "convert it with iconv -f UTF-32 -t UTF-8"),
    ("UTF-32", "convert it with iconv -f UTF-32LE -t UTF-8"),
    ("UTF-32", "convert it with iconv -f UTF-32BE -t UTF-8"),
];
const LEAVE_OUT: &str = "leave it out";

/// How formats begin, with their names and what to do.
const BEGINNINGS: [(&[u8], &str, &str); 40] = [
    (b"PAR1", "Parquet", TABLES),
    (b"PARE", "encrypted Parquet", TABLES),
    (b"ARROW1", "Arrow (Feather)", TABLES),
    (b"FEA1", "Feather", TABLES),
    (b"\xFF\xFF\xFF\xFF", "an Arrow stream", TABLES),
    (b"ORC", "ORC", TABLES),
    (b"Obj\x01", "Avro", TABLES),
    (b"SQLite format 3\0", "an SQLite database", TABLES),
    (b"\x89HDF\r\n\x1A\n", "HDF5", TABLES),
    (b"\x93NUMPY", "a NumPy array", TABLES),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"PK\x05\x06", "an empty zip archive", LEAVE_OUT),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive", UNPACK),
    (b"Rar!\x1A\x07", "a RAR archive", UNPACK),
    (b"\x1F\x8B\x08", "gzip within a compressed file", UNPACK),
    (b"\x28\xB5\x2F\xFD", "zstd within a compressed file", UNPACK),
    (
        b"\xFD7zXZ\0",
        "xz",
        "unpack it with xz -d, or compress it with gzip or zstd instead",
    ),
    (
        b"\x04\x22\x4D\x18",
        "LZ4",
        "unpack it with lz4 -d, or compress it with gzip or zstd instead",
    ),
    (b"\x1F\x9D", "compress (.Z)", "unpack it with gzip -d"),
    (
        b"LZIP",
        "lzip",
        "unpack it with lzip -d, or compress it with gzip or zstd instead",
    ),
    (
        b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1",
        "an old Office document",
        "save it as CSV or text, in UTF-8",
    ),
    (b"%PDF-", "PDF", TEXT_OF),
    (b"%!PS", "PostScript", TEXT_OF),
    (b"{\\rtf", "RTF", "save it as text, in UTF-8"),
    (b"\x89PNG", "a PNG image", LEAVE_OUT),
    (b"\xFF\xD8\xFF", "a JPEG image", LEAVE_OUT),
    (b"GIF87a", "a GIF image", LEAVE_OUT),
    (b"GIF89a", "a GIF image", LEAVE_OUT),
    (b"RIFF", "an image, sound or video (RIFF)", LEAVE_OUT),
    (b"OggS", "sound or video (Ogg)", LEAVE_OUT),
    (b"ID3", "sound (MP3)", LEAVE_OUT),
    (b"fLaC", "sound (FLAC)", LEAVE_OUT),
    (b"\x1A\x45\xDF\xA3", "video (Matroska)", LEAVE_OUT),
    (b"\x7FELF", "a program", LEAVE_OUT),
    (b"\0asm", "a WebAssembly program", LEAVE_OUT),
    (b"GGUF", "weights of a model (GGUF)", LEAVE_OUT),
    (b"\x80\x02", "a pickle of Python", TABLES),
    (b"\x80\x03", "a pickle of Python", TABLES),
    (b"\x80\x04", "a pickle of Python", TABLES),
    (b"\x80\x05", "a pickle of Python", TABLES),
];

/// Beginnings that are words too: only a file with bytes that no text has is of these formats.
const WORDS: [&str; 6] = ["ORC", "LZIP", "RIFF", "OggS", "ID3", "GGUF"];

/// What `head`, the beginning of a file's content, is the beginning of, unless it may be text.
pub(super) fn foreign(head: &[u8]) -> Option<Foreign> {
    let of = |name, remedy| Some(Foreign { name, remedy });
    for (beginning, name, remedy) in BEGINNINGS {
        let is_word = WORDS.iter().any(|word| word.as_bytes() == beginning);
        if head.starts_with(beginning) && (!is_word || !is_text(head)) {
            return match name {
                "a zip archive" => Some(archive(head)),
                _ => of(name, remedy),
            };
        }
    }
    if let [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] = head {
        return of(
            "bzip2",
            "unpack it with bzip2 -d, or compress it with gzip or zstd instead",
        );
    }
    if head.get(257..262) == Some(b"ustar") {
        return of("a tar archive", UNPACK);
    }
    if head.get(4..8) == Some(b"ftyp") {
        return of("video (MP4)", LEAVE_OUT);
    }
    if head.get(8..10) == Some(b"{\"") && head.get(5..8) == Some(&[0, 0, 0]) {
        return of("weights of a model (safetensors)", LEAVE_OUT);
    }
    if is_html(head) {
        return of("HTML", TEXT_OF);
    }
    if let Some(kind) = wide_text(head) {
        let (name, remedy) = WIDE[kind];
        return of(name, remedy);
    }
    if !opens_row(head) && !is_text(head) {
        return of(
            "no text but binary data",
            "leave it out, or, if it is text, remove the control characters",
        );
    }
    None
}

/// Which of [`WIDE`] a text is, by its mark or because it reads as such and not as UTF-8.
fn wide_text(head: &[u8]) -> Option<usize> {
    match head {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => return Some(3),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => return Some(0),
        _ => {}
    }
    let head = &head[..head.len().min(4096)];
    let rest: Vec<u8> = head.iter().copied().filter(|&byte| byte != 0).collect();
    let zeros = head.len() - rest.len();
    // Without its few zeros it would be text.
    let is_sparse = zeros * 5 < head.len() && is_text(&rest) && std::str::from_utf8(&rest).is_ok();
    if head.len() < 4 || zeros == 0 || is_sparse {
        return None;
    }
    let is_written = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{C}');
    let (fours, _) = head.as_chunks::<4>();
    let reads_as_utf32 = |number: fn([u8; 4]) -> u32| {
        let mut chars = fours.iter().map(|&four| char::from_u32(number(four)));
        chars.all(|c| c.is_some_and(is_written))
    };
    if reads_as_utf32(u32::from_le_bytes) {
        return Some(4);
    }
    if reads_as_utf32(u32::from_be_bytes) {
        return Some(5);
    }
    // The last character may be cut.
    let (twos, _) = head.as_chunks::<2>();
    let twos = &twos[..twos.len() - usize::from(twos.len() == 2048)];
    let reads_as_utf16 = |number: fn([u8; 2]) -> u16| {
        let mut chars = char::decode_utf16(twos.iter().map(|&two| number(two)));
        chars.all(|c| c.is_ok_and(is_written))
    };
    // Latin letters read as rare ones in the other order; zeros tell which is meant.
    let low = |at: usize| {
        head.iter()
            .skip(at)
            .step_by(2)
            .filter(|&&byte| byte == 0)
            .count()
    };
    let orders = [
        (1, reads_as_utf16(u16::from_le_bytes)),
        (2, reads_as_utf16(u16::from_be_bytes)),
    ];
    let likelier = if low(1) >= low(0) {
        orders
    } else {
        [orders[1], orders[0]]
    };
    likelier
        .into_iter()
        .find(|order| order.1)
        .map(|order| order.0)
}

/// Whether there is no zero byte, and few control characters.
fn is_text(head: &[u8]) -> bool {
    let is_odd = |byte: &&u8| matches!(byte, 1..=8 | 0x0E..=0x1A | 0x1C..=0x1F | 0x7F);
    !head.contains(&0) && head.iter().filter(is_odd).count() <= head.len() / 10
}

/// What a zip archive holds, by the names of its first files.
fn archive(head: &[u8]) -> Foreign {
    let holds = |name: &str| head.windows(name.len()).any(|at| at == name.as_bytes());
    let (name, remedy) = if holds("xl/") {
        ("an Excel workbook", "save it as CSV, in UTF-8")
    } else if holds("word/") {
        ("a Word document", "save it as text, in UTF-8")
    } else if holds("mimetypeapplication/vnd.oasis") {
        ("an OpenDocument file", "save it as CSV or text, in UTF-8")
    } else if holds("mimetypeapplication/epub") {
        ("an EPUB book", TEXT_OF)
    } else {
        ("a zip archive", UNPACK)
    };
    Foreign { name, remedy }
}

/// Whether a page of HTML begins here, after comments and the like.
fn is_html(head: &[u8]) -> bool {
    let start = super::lines::without_marks(head);
    let start = &start[..start.len().min(1024)];
    let start = String::from_utf8_lossy(start).to_ascii_lowercase();
    let mut start = start.trim_start();
    // What may precede it.
    for (opens, closes) in [("<?xml", "?>"), ("<!--", "-->")] {
        if let Some((_, rest)) = start
            .split_once(closes)
            .filter(|_| start.starts_with(opens))
        {
            start = rest.trim_start();
        }
    }
    let is_tag = |tag: &str| {
        let rest = start.strip_prefix(tag);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c == '>' || c.is_ascii_whitespace()))
    };
    ["<!doctype html", "<html", "<head"].into_iter().any(is_tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(head: &[u8]) -> Option<&'static str> {
        foreign(head).map(|it| it.name)
    }

    fn remedy(head: &[u8]) -> &'static str {
        foreign(head).map_or("", |it| it.remedy)
    }

    fn wide(text: &str, number: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(number).collect()
    }

    #[test]
    fn wide_texts_with_and_without_marks() {
        for text in [
            "hello there\nplain words\n",
            "Жили были дед да баба.\nИ ели кашу.\n",
            "日本語 の テキスト\r\n",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}\n",
            "question,answer\nq,a\n",
        ] {
            let marked = format!("\u{FEFF}{text}");
            for number in [u16::to_le_bytes, u16::to_be_bytes] {
                assert_eq!(name(&wide(text, number)), Some("UTF-16"), "{text}");
                assert_eq!(name(&wide(&marked, number)), Some("UTF-16"), "{text}");
                let long = wide(&text.repeat(300), number);
                assert_eq!(name(&long), Some("UTF-16"), "{text}");
                assert_eq!(name(&long[..long.len() - 1]), Some("UTF-16"), "{text}");
            }
            for number in [u32::to_le_bytes, u32::to_be_bytes] {
                for text in [text, &marked] {
                    let bytes: Vec<u8> = text.chars().flat_map(|c| number(c.into())).collect();
                    assert_eq!(name(&bytes), Some("UTF-32"), "{text}");
                }
            }
            let (little, big) = (wide(text, u16::to_le_bytes), wide(text, u16::to_be_bytes));
            assert!(remedy(&little).contains("UTF-16LE") && remedy(&big).contains("UTF-16BE"));
            assert_eq!(name(text.as_bytes()), None);
            assert_eq!(name(marked.as_bytes()), None);
        }
    }

    #[test]
    fn formats_by_their_beginnings() {
        for (head, expected) in [
            (&b"PAR1m%\xcf"[..], "Parquet"),
            (b"ARROW1\0\0\xff\xff\xff\xff", "Arrow (Feather)"),
            (b"\xff\xff\xff\xff\x98\0\0\0\x10\0", "an Arrow stream"),
            (
                b"PK\x03\x04\x14\0\0\0[Content_Types].xml xl/workbook.xml",
                "an Excel workbook",
            ),
            (b"PK\x03\x04\x14\0\0\0data/a.jsonl", "a zip archive"),
            (b"SQLite format 3\0\x10", "an SQLite database"),
            (b"%PDF-1.7\n", "PDF"),
            (b"BZh91AY&SY", "bzip2"),
            (b"\xFD7zXZ\0\0", "xz"),
            (b"7z\xBC\xAF\x27\x1C\0", "a 7z archive"),
            (b"<!DOCTYPE html>\n<html>", "HTML"),
            (b"\xEF\xBB\xBF\n<HTML lang=en>", "HTML"),
            (b"<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC>", "HTML"),
            (b"<!-- saved -->\n<html>", "HTML"),
            (
                b"\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\"",
                "weights of a model (safetensors)",
            ),
            (b"RIFF\x24\0\0\0WAVE", "an image, sound or video (RIFF)"),
            (b"words\0words and words", "no text but binary data"),
            (b"\x01\x02\x03abc", "no text but binary data"),
        ] {
            assert_eq!(name(head), Some(expected));
        }
        let mut tar = vec![b'a'; 300];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(name(&tar), Some("a tar archive"));
    }

    #[test]
    fn text_stays_text() {
        for text in [
            "",
            "a",
            "ORC stands for Optimized Row Columnar.",
            "ID3 tags name a song",
            "RIFF is a format",
            "BZh is how bzip2 begins",
            "<p>a fragment</p>",
            "<htmlish> is no tag",
            "Write <html> first.",
            "<?xml version='1.0'?><note/>",
            "\u{1b}[31mred\u{1b}[0m is a colour of terminals",
            "PK is a name",
            "{\"messages\": \"\0\"}",
        ] {
            assert_eq!(foreign(text.as_bytes()), None, "{text}");
        }
    }
}
