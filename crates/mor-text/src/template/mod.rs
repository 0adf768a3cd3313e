//! Chat templates: Jinja, as Hugging Face stores them and transformers renders them.
//!
//! A template gets the real contents, since it may trim, compare and cut them. Which parts of the result a message
//! wrote is found out by [`crate::tokenizer`], which renders a second time with other contents.
//!
//! What minijinja lacks gives an error; what it has otherwise is mended here or refused.

mod bounds;
mod case;
mod clock;
mod filters;
mod json;
mod methods;
mod operators;
mod python;
mod sequence;
mod source;
mod tag;

use chrono::{DateTime, Local};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};

use crate::{Result, Role, TextError};

pub(crate) use methods::is_space;

/// A template comes with the model and is not trusted: it may run this many instructions, enough for
/// thousands of messages and over in well under a second.
const FUEL: u64 = 2_000_000;
/// What a template may write, in bytes: far more than any context holds.
const MAX_OUTPUT: usize = 16 << 20;
/// Longest template accepted, in bytes.
const MAX_TEMPLATE: usize = 256 << 10;
/// How deep macros and loops may call themselves; each level costs some kilobytes of the stack.
const MAX_RECURSION: usize = 64;
/// Longest reason that an error quotes, in characters.
const MAX_REASON: usize = 300;

/// The template's name in error messages. No extension, so that nothing is escaped.
const NAME: &str = "chat_template";

/// A compiled chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
}

/// What a template is told beside the messages; the same for every rendering of a conversation.
pub(crate) struct Setting<'a> {
    pub(crate) add_generation_prompt: bool,
    /// Names like `bos_token`, with the tokens they stand for.
    pub(crate) tokens: &'a [(String, String)],
    pub(crate) now: DateTime<Local>,
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
        // As jinja2 does, in the template's own strings too.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let prepared = source::prepare(&source).map_err(error)?;
        let mut environment = Environment::new();
        // What Hugging Face sets, so that their templates mean the same here.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        python::add(&mut environment);
        bounds::add_checks(&mut environment, prepared.literals);
        environment
            .add_template_owned(NAME, prepared.source)
            .map_err(describe)?;
        Ok(Self { environment })
    }

    /// The text of `messages`: roles and contents.
    ///
    /// # Errors
    /// [`TextError::Template`] when the template fails, refuses the messages or does too much.
    pub(crate) fn render<'a>(
        &self,
        messages: impl IntoIterator<Item = (Role, &'a str)>,
        setting: &Setting<'_>,
    ) -> Result<String> {
        let messages: Vec<Value> = messages
            .into_iter()
            .map(|(role, content)| context! { role => role.as_str(), content => content })
            .collect();
        let now = setting.now;
        let clock = move |format: String| clock::strftime(now, &format);
        let tokens = setting.tokens.iter();
        let tokens = tokens.map(|(name, token)| (name.as_str(), Value::from(token.as_str())));
        let variables: Value = tokens
            .chain([
                ("messages", Value::from(messages)),
                (
                    "add_generation_prompt",
                    Value::from(setting.add_generation_prompt),
                ),
                ("tools", Value::from(())),
                ("documents", Value::from(())),
                ("strftime_now", Value::from_function(clock)),
            ])
            .collect();
        let template = self.environment.get_template(NAME).map_err(describe)?;
        let mut output = Limited(Vec::new());
        template
            .render_captured_to(variables, &mut output)
            .map_err(describe)?;
        String::from_utf8(output.0).map_err(|_| error("its output is not UTF-8".to_owned()))
    }
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

/// An error on one line: the template's own words may be in `reason`.
pub(crate) fn error(reason: String) -> TextError {
    let mut line = String::new();
    for (index, c) in reason.chars().enumerate() {
        match c {
            _ if index == MAX_REASON => {
                line.push('…');
                break;
            }
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    TextError::Template { reason: line }
}

/// One line that says what the template's author needs to know.
fn describe(cause: Error) -> TextError {
    let line = cause
        .line()
        .map(|line| format!("line {line}: "))
        .unwrap_or_default();
    match (cause.kind(), cause.detail()) {
        (ErrorKind::OutOfFuel, _) => error(format!(
            "stopped after {FUEL} instructions; it does too much for a template"
        )),
        (ErrorKind::WriteFailure, Some(detail)) if detail.starts_with("it ") => {
            error(format!("{line}{detail}"))
        }
        (ErrorKind::WriteFailure, _) => {
            error(format!("writes more than {} MiB of text", MAX_OUTPUT >> 20))
        }
        (kind, Some(detail)) => error(format!("{line}{kind}: {detail}")),
        (kind, None) => error(format!("{line}{kind}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DEFAULT_CHAT_TEMPLATE;

    fn render(template: &str, messages: &[(Role, &str)], prompt: bool) -> Result<String> {
        let token = |name: &str, token: &str| (name.to_owned(), token.to_owned());
        let setting = Setting {
            add_generation_prompt: prompt,
            tokens: &[token("bos_token", "<bos>"), token("eos_token", "<eos>")],
            now: Local::now(),
        };
        ChatTemplate::new(template)?.render(messages.iter().copied(), &setting)
    }

    #[test]
    fn default_template() {
        let messages = [
            (Role::System, "s"),
            (Role::User, "u"),
            (Role::Assistant, "a"),
            (Role::User, "v"),
        ];
        let rendered = render(DEFAULT_CHAT_TEMPLATE, &messages, true).unwrap();
        assert_eq!(
            rendered,
            "<bos><system>s<user>u<assistant>a<eos><user>v<assistant>"
        );
    }

    #[test]
    fn hostile_templates_end_with_an_error() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = b %}{% endfor %}{% endfor %}";
        let long = "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}";
        let doubling = "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}";
        let with = "{% set a = 'a' * 9999 %}".to_owned()
            + &"{% with a = a ~ a %}".repeat(30)
            + &"{% endwith %}".repeat(30);
        let macros = "{% macro m(a) %}{{ m(a ~ a) }}{% endmacro %}{{ m('a' * 9999) }}";
        let captured = "{% set x %}{% for i in range(99999) %}".to_owned()
            + &"x".repeat(9999)
            + "{% endfor %}{% endset %}";
        let nested = "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}";
        for (template, expected) in [
            (endless, "instructions"),
            (long, "writes more than 16 MiB"),
            (doubling, "a string of"),
            (&with, "a string of"),
            (macros, "recursion"),
            (&captured, "builds more than"),
            (nested, "deep"),
            (
                "{% set n = namespace() %}{% set n.a = n %}{{ n }}",
                "namespace inside",
            ),
            (
                "{% set n = namespace() %}{% set n.a = [[n]] %}{{ n ~ '' }}",
                "namespace inside",
            ),
            (
                "{% set n = namespace() %}{% set n.a = n.items() %}{{ n }}",
                "no method named items",
            ),
            (
                "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
                "recursion",
            ),
            ("{{ [0] * 1000000000000 | length }}", "multiplies by"),
            ("{% for %}", "line 1: syntax error"),
            (
                "{{ raise_exception('no system\nturn\x1b[0m') }}",
                "no system\\nturn\\u{1b}[0m",
            ),
        ] {
            let error = render(template, &[(Role::User, "u")], false);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{template}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn deep_templates_do_not_end_the_program() {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("not ", ""),
            ("-", ""),
            ("{% if 1 %}", "{% endif %}"),
        ] {
            let expression = open.repeat(20_000) + "1" + &close.repeat(20_000);
            let template = if open.starts_with('{') {
                expression
            } else {
                format!("{{{{ {expression} }}}}")
            };
            let _ = render(&template, &[], false);
        }
    }

    #[test]
    fn what_python_would_not_print_is_refused() {
        for (template, expected) in [
            (
                "{{ messages|map(attribute='role') }}",
                "a generator has no text",
            ),
            (
                "{{ messages|map(attribute='role') ~ 'x' }}",
                "a generator has no text",
            ),
            (
                "{{ [messages|reverse]|tojson }}",
                "cannot be written as JSON",
            ),
            ("{% set n = namespace() %}{{ n }}", "namespace"),
            ("{{ messages[0].content|e }}", "filter e is unknown"),
            ("{% autoescape true %}{% endautoescape %}", "HTML"),
            (
                "{% macro m() %}{{ varargs }}{% endmacro %}",
                "`varargs` of a macro",
            ),
            (
                "{{ [messages[0].role]|max }}",
                "`min` and `max` are for numbers",
            ),
            ("{{ '½'.isdigit() }}", "`isdigit` of this text"),
            (
                "{{ messages[0]|reverse|list }}",
                "a dict cannot be reversed",
            ),
        ] {
            let error = render(template, &[(Role::User, "a")], true)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }
}
