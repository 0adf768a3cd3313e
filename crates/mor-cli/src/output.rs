//! Printing that outlives its reader: `mor train … | head` must not end the training, nor any command with a panic, as
//! the standard macros would. And printing that a file cannot abuse: names, keys and messages come from files and
//! requests, and a control character among them could set a terminal's title, its colours or its cursor.

use std::borrow::Cow;
use std::io::{self, Write};

/// A line on standard output.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!($crate::output::stdout(), $($text)*);
    }};
}

/// A line on standard error.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!($crate::output::stderr(), $($text)*);
    }};
}

/// `text` with control characters other than line feeds and tabs in the spelling of JSON, such as `\u001b`: what was
/// JSON before still is, with the same meaning.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, |c| c.is_control() && c != '\n' && c != '\t')
}

/// A name or message out of a file, for one line: as [`escaped`], and so are line breaks, tabs and what turns the
/// direction of the text around it.
#[cfg(feature = "model")]
pub(crate) fn name(text: &str) -> String {
    let turns = |c| matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    let breaks = |c| matches!(c, '\u{2028}' | '\u{2029}');
    escape(text, |c| c.is_control() || turns(c) || breaks(c)).into_owned()
}

/// What a model wrote, without its control characters other than line feeds and tabs.
#[cfg(feature = "model")]
pub(crate) fn printable(text: &str) -> String {
    let replaced = |c: char| match c.is_control() && c != '\n' && c != '\t' {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    };
    text.chars().map(replaced).collect()
}

/// Prints what a command was asked for: unlike [`say!`], an output that is full is an error.
#[cfg(feature = "model")]
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let mut out = stdout();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.context("standard output")
}

fn escape(text: &str, is_harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Standard output for a person or for JSON: control characters are [`escaped`]. Bytes that must arrive as they are go to
/// [`std::io::stdout`] itself.
pub(crate) fn stdout() -> Escaping<io::StdoutLock<'static>> {
    Escaping(io::stdout().lock())
}

/// As [`stdout`], on standard error.
pub(crate) fn stderr() -> Escaping<io::StderrLock<'static>> {
    Escaping(io::stderr().lock())
}

/// Passes text on with its control characters [`escaped`]. Each write must hold whole characters, as formatting gives
/// them; what is not UTF-8 becomes U+FFFD.
pub(crate) struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(escaped(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_passes_and_text_stays() {
        let mut out = Escaping(Vec::new());
        let hostile = "naïve 語\u{1b}]0;title\u{7}\n\t\r\u{9b}31m\u{7f}";
        write!(out, "{hostile}").expect("memory");
        let text = String::from_utf8(out.0).expect("UTF-8");
        assert_eq!(
            text,
            "naïve 語\\u001b]0;title\\u0007\n\t\\u000d\\u009b31m\\u007f"
        );
        assert!(matches!(escaped("plain\n"), Cow::Borrowed("plain\n")));
    }
    #[cfg(feature = "model")]
    #[test]
    fn names_stay_on_their_line() {
        let shown = name("a\u{1b}]0;title\u{7}\r\n\tb\u{202E}");
        assert_eq!(
            shown,
            "a\\u001b]0;title\\u0007\\u000d\\u000a\\u0009b\\u202e"
        );
    }
}
