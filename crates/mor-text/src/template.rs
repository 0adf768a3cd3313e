//! Chat templates: Jinja, as Hugging Face stores them in `tokenizer_config.json`.
//!
//! A template decides which special tokens surround a message; the message itself must never become one. So the
//! template is rendered with a placeholder for each content, and the output is cut at the placeholders:
//! [`Piece::Markup`] may hold special tokens, [`Piece::Content`] is plain text whatever it says.

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context};

use crate::{Message, Result, TextError};

/// A template comes with the model and is not trusted: it may run this many instructions, enough for
/// thousands of messages and over in well under a second.
const FUEL: u64 = 2_000_000;
/// Markup a template may write, in bytes: far more than any real one does.
const MAX_OUTPUT: usize = 1 << 20;
/// Longest template accepted, in bytes.
const MAX_TEMPLATE: usize = 256 << 10;

/// The template's name in error messages. No extension, so that nothing is escaped.
const NAME: &str = "chat_template";

/// Brackets around a message's index. Noncharacters: no honest template writes them.
const OPEN: char = '\u{FDD0}';
const CLOSE: char = '\u{FDD1}';

/// A part of a rendered conversation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Written by the template; special tokens in it count.
    Markup(&'a str),
    /// The content of the message with this index, to be encoded as plain text.
    Content(usize),
}

/// A compiled chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Compiles `source`.
    pub(crate) fn new(source: &str) -> Result<Self> {
        if source.len() > MAX_TEMPLATE {
            return Err(error(format!(
                "{} bytes long; at most {MAX_TEMPLATE} are accepted",
                source.len()
            )));
        }
        let mut environment = Environment::new();
        // What Hugging Face sets, so that their templates mean the same here.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(FUEL));
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<String, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(describe)?;
        Ok(Self { environment })
    }

    /// Renders `messages` with placeholders for their contents; [`pieces`] cuts the result.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        bos_token: &str,
        eos_token: &str,
    ) -> Result<String> {
        let messages: Vec<_> = messages
            .iter()
            .enumerate()
            .map(|(index, message)| {
                context! { role => message.role.as_str(), content => format!("{OPEN}{index}{CLOSE}") }
            })
            .collect();
        let template = self.environment.get_template(NAME).map_err(describe)?;
        let mut output = Limited(Vec::new());
        template
            .render_captured_to(
                context! { messages, add_generation_prompt, bos_token, eos_token },
                &mut output,
            )
            .map_err(describe)?;
        String::from_utf8(output.0).map_err(|_| error("its output is not UTF-8".to_owned()))
    }
}

/// Cuts a rendered conversation of `count` messages into markup and contents.
pub(crate) fn pieces(rendered: &str, count: usize) -> Result<Vec<Piece<'_>>> {
    let damaged = || {
        error(
            "it changes the contents of messages; it must insert `message.content` as it is"
                .to_owned(),
        )
    };
    let mut pieces = Vec::new();
    let mut rest = rendered;
    while let Some((markup, tail)) = rest.split_once(OPEN) {
        let (index, tail) = tail.split_once(CLOSE).ok_or_else(damaged)?;
        let index = index
            .parse()
            .ok()
            .filter(|&index| index < count)
            .ok_or_else(damaged)?;
        if !markup.is_empty() {
            pieces.push(Piece::Markup(markup));
        }
        pieces.push(Piece::Content(index));
        rest = tail;
    }
    if rest.contains(CLOSE) {
        return Err(damaged());
    }
    if !rest.is_empty() {
        pieces.push(Piece::Markup(rest));
    }
    Ok(pieces)
}

/// A buffer that refuses to grow past [`MAX_OUTPUT`].
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(std::io::Error::other("output too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn error(reason: String) -> TextError {
    TextError::Template { reason }
}

/// One line that says what the template's author needs to know.
fn describe(cause: Error) -> TextError {
    let line = cause
        .line()
        .map(|line| format!("line {line}: "))
        .unwrap_or_default();
    match cause.kind() {
        ErrorKind::OutOfFuel => error(format!(
            "stopped after {FUEL} instructions; it does too much for a template"
        )),
        ErrorKind::WriteFailure => error(format!("writes more than {MAX_OUTPUT} bytes of markup")),
        kind => match cause.detail() {
            Some(detail) => error(format!("{line}{kind}: {detail}")),
            None => error(format!("{line}{kind}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DEFAULT_CHAT_TEMPLATE, Role};

    fn render(template: &str, messages: &[Message], prompt: bool) -> Result<String> {
        ChatTemplate::new(template)?.render(messages, prompt, "<bos>", "<eos>")
    }

    #[test]
    fn default_template() {
        let messages = [
            Message::new(Role::System, "s"),
            Message::new(Role::User, "u"),
            Message::new(Role::Assistant, "a"),
            Message::new(Role::User, "v"),
        ];
        let rendered = render(DEFAULT_CHAT_TEMPLATE, &messages, true).unwrap();
        let expected = [
            Piece::Markup("<bos><system>"),
            Piece::Content(0),
            Piece::Markup("<user>"),
            Piece::Content(1),
            Piece::Markup("<assistant>"),
            Piece::Content(2),
            Piece::Markup("<eos><user>"),
            Piece::Content(3),
            Piece::Markup("<assistant>"),
        ];
        assert_eq!(pieces(&rendered, 4).unwrap(), expected);
    }

    #[test]
    fn hostile_templates_end_with_an_error() {
        let message = [Message::new(Role::User, "u")];
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = b %}{% endfor %}{% endfor %}";
        let long = "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}";
        let cut = "{{ messages[0].content[0] }}";
        for (template, expected) in [
            (endless, "instructions"),
            (long, "bytes of markup"),
            ("{% for %}", "line 1: syntax error"),
            ("{{ raise_exception('no system turn') }}", "no system turn"),
        ] {
            let error = render(template, &message, false).unwrap_err().to_string();
            assert!(error.contains(expected), "{template}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let rendered = render(cut, &message, false).unwrap();
        assert!(
            pieces(&rendered, 1)
                .unwrap_err()
                .to_string()
                .contains("changes the contents")
        );
    }
}
