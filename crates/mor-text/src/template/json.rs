//! Values as Python writes them: `json.dumps` and `repr`.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::bounds::is_namespace;
use super::methods::is_space;
use super::python::invalid;
use super::sequence::{Kind, Sequence};

/// How deep values may be nested.
const MAX_DEPTH: usize = 64;
/// Most bytes that are written.
const MAX_BYTES: usize = 8 << 20;

/// What `json.dumps` is asked for.
pub(super) struct Json {
    pub(super) ensure_ascii: bool,
    /// What each level adds in front of a line; `None` is everything on one line.
    pub(super) indent: Option<String>,
    pub(super) item_separator: String,
    pub(super) key_separator: String,
    pub(super) sort_keys: bool,
}

impl Json {
    /// `value` as JSON.
    pub(super) fn write(&self, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.value(value, 0, &mut out)?;
        Ok(out)
    }

    fn value(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        check(depth, out)?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable
                if Sequence::of(value).is_none_or(|it| it.kind == Kind::Tuple) =>
            {
                let items = value.try_iter()?;
                self.list(('[', ']'), items, depth, out, |item, out| {
                    self.value(&item, depth + 1, out)
                })?;
            }
            ValueKind::Map => {
                let mut pairs = pairs(value);
                if self.sort_keys {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.list(
                    ('{', '}'),
                    pairs.into_iter(),
                    depth,
                    out,
                    |(key, value), out| {
                        match key.kind() {
                            ValueKind::String => self.string(key.as_str().unwrap_or_default(), out),
                            ValueKind::None => out.push_str("\"null\""),
                            ValueKind::Bool => out.push_str(if key.is_true() {
                                "\"true\""
                            } else {
                                "\"false\""
                            }),
                            _ => self.string(&number(&key), out),
                        }
                        out.push_str(&self.key_separator);
                        self.value(&value, depth + 1, out)
                    },
                )?;
            }
            kind => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("{kind} cannot be written as JSON"),
                ));
            }
        }
        Ok(())
    }

    fn list<T>(
        &self,
        (open, close): (char, char),
        items: impl Iterator<Item = T>,
        depth: usize,
        out: &mut String,
        mut write: impl FnMut(T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                (0..depth).for_each(|_| out.push_str(indent));
            }
        };
        out.push(open);
        let mut is_empty = true;
        for item in items {
            if !is_empty {
                out.push_str(&self.item_separator);
            }
            is_empty = false;
            line(depth + 1, out);
            write(item, out)?;
        }
        if !is_empty {
            line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// `value` as Python prints it in text: strings as they are, lists and dicts with `repr` of what they hold.
pub(super) fn printed(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::Plain => {
            let mut out = String::new();
            repr(value, 0, &mut out)?;
            Ok(out)
        }
        _ => Ok(number(value)),
    }
}

fn repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    check(depth, out)?;
    match value.kind() {
        ValueKind::String => repr_string(value.as_str().unwrap_or_default(), out),
        _ if let Some(sequence) = Sequence::of(value) => sequence_repr(sequence, depth, out)?,
        _ if is_namespace(value) => {
            return Err(invalid("a namespace has no text"));
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (index, item) in value.try_iter()?.enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                repr(&item, depth + 1, out)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, (key, value)) in pairs(value).into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                repr(&key, depth + 1, out)?;
                out.push_str(": ");
                repr(&value, depth + 1, out)?;
            }
            out.push('}');
        }
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Plain => return Err(invalid("an object has no text")),
        _ => out.push_str(&number(value)),
    }
    Ok(())
}

fn sequence_repr(sequence: &Sequence, depth: usize, out: &mut String) -> Result<(), Error> {
    match sequence.kind {
        Kind::Tuple => {
            out.push('(');
            for (index, item) in sequence.items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                repr(item, depth + 1, out)?;
            }
            let is_one = sequence.items.len() == 1;
            out.push_str(if is_one { ",)" } else { ")" });
        }
        Kind::Range(start, end, 1) => out.push_str(&format!("range({start}, {end})")),
        Kind::Range(start, end, step) => {
            out.push_str(&format!("range({start}, {end}, {step})"));
        }
        Kind::View(name) => {
            out.push_str(name);
            out.push('(');
            repr(&Value::from(sequence.items.clone()), depth + 1, out)?;
            out.push(')');
        }
        Kind::Generator => {
            return Err(invalid(
                "a generator has no text; make a list of it with the filter `list`",
            ));
        }
    }
    Ok(())
}

fn repr_string(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c < ' ' || matches!(c, '\u{7f}'..='\u{a0}' | '\u{ad}') => {
                out.push_str(&format!("\\x{:02x}", u32::from(c)));
            }
            // Other space, and signs that are not seen.
            c if c != ' ' && (is_space(c) || is_invisible(c)) => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Signs that change how others are shown, and private ones.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}')
}

/// A number, bool or none as Python prints it. Large and small floats have exponents of two digits there.
fn number(value: &Value) -> String {
    let text = value.to_string();
    let float = text.parse::<f64>().ok().filter(|_| text.contains('.'));
    match float {
        Some(number) if number != 0.0 && !(1e-4..1e16).contains(&number.abs()) => {
            let text = format!("{number:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        _ => text,
    }
}

fn pairs(map: &Value) -> Vec<(Value, Value)> {
    map.as_object()
        .and_then(|object| object.try_iter_pairs())
        .map_or_else(Vec::new, Iterator::collect)
}

fn check(depth: usize, out: &str) -> Result<(), Error> {
    let reason = if depth > MAX_DEPTH {
        format!("it nests values more than {MAX_DEPTH} deep")
    } else if out.len() > MAX_BYTES {
        format!("it writes a value of more than {MAX_BYTES} bytes")
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidOperation, reason))
}
