//! Methods of strings, dicts and lists as Python has them.

use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::bounds::{charge, is_namespace};
use super::case;
use super::filters::{join, replace};
use super::operators::REVERSED;
use super::python::invalid;
use super::sequence::{Kind, Sequence};

/// Methods of strings and dicts. Those that are not here are minijinja's own imitation of Python.
pub(super) fn method(
    state: &State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if is_namespace(value) {
        return Err(Error::from(ErrorKind::UnknownMethod));
    }
    if name == REVERSED {
        return reversed(value);
    }
    let Some(text) = value.as_str() else {
        return match (value.kind(), name) {
            (ValueKind::Map, "items" | "keys" | "values") => {
                let () = from_args(args)?;
                view(value, name)
            }
            _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
        };
    };
    charge(state, text.len())?;
    let one = || -> Result<String, Error> { Ok(from_args::<(String,)>(args)?.0) };
    Ok(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<String>,) = from_args(args)?;
            let (left, right) = (name != "rstrip", name != "lstrip");
            Value::from(strip(text, chars.as_deref(), left, right))
        }
        "split" | "rsplit" => {
            let (args, kwargs): (Rest<Value>, Kwargs) = from_args(args)?;
            let (separator, count): (Option<String>, Option<i64>) = from_args(&args)?;
            let separator = separator.or(kwargs.get("sep")?);
            let count: Option<i64> = count.or(kwargs.get("maxsplit")?);
            kwargs.assert_all_used()?;
            let count = count.and_then(|count| usize::try_from(count).ok());
            split(text, separator.as_deref(), count, name == "rsplit")?
        }
        "partition" | "rpartition" => {
            let separator = one()?;
            if separator.is_empty() {
                return Err(invalid("empty separator"));
            }
            let parts = match name {
                "partition" => text.split_once(separator.as_str()),
                _ => text.rsplit_once(separator.as_str()),
            };
            let parts = match parts {
                Some((left, right)) => [left, &separator, right],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Sequence::tuple(parts.into_iter().map(Value::from))
        }
        "removeprefix" => {
            let prefix = one()?;
            Value::from(text.strip_prefix(prefix.as_str()).unwrap_or(text))
        }
        "removesuffix" => {
            let suffix = one()?;
            Value::from(text.strip_suffix(suffix.as_str()).unwrap_or(text))
        }
        "find" | "rfind" => {
            let what = one()?;
            let at = match name {
                "find" => text.find(what.as_str()),
                _ => text.rfind(what.as_str()),
            };
            Value::from(at.map_or(-1, |at| text[..at].chars().count() as i64))
        }
        "replace" => {
            let (old, new, count): (String, String, Option<i64>) = from_args(args)?;
            Value::from(replace(state, text.to_owned(), old, new, count)?)
        }
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            let kwargs = Kwargs::from_iter(std::iter::empty::<(&str, Value)>());
            Value::from(join(state, items, Some(text.to_owned()), kwargs)?)
        }
        "count" => {
            let what = one()?;
            match what.is_empty() {
                true => Value::from(text.chars().count() + 1),
                false => Value::from(text.matches(what.as_str()).count()),
            }
        }
        "title" | "capitalize" | "swapcase" => {
            let () = from_args(args)?;
            Value::from(match name {
                "title" => case::title(text),
                "capitalize" => case::capitalize(text),
                _ => case::swap(text),
            })
        }
        "islower" | "isupper" | "istitle" => {
            let () = from_args(args)?;
            Value::from(match name {
                "islower" => case::is_lower(text),
                "isupper" => case::is_upper(text),
                _ => case::is_title_text(text),
            })
        }
        "isspace" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(is_space))
        }
        "isdigit" | "isdecimal" | "isnumeric" | "isalpha" | "isalnum" => {
            let () = from_args(args)?;
            // Which of Unicode's other numbers are digits, Rust does not tell.
            if text.chars().any(|c| !c.is_ascii() && c.is_numeric()) {
                return Err(invalid(format!("`{name}` of this text is not known here")));
            }
            let counts = |c: char| match name {
                "isalpha" => c.is_alphabetic(),
                "isalnum" => c.is_alphanumeric(),
                _ => c.is_ascii_digit(),
            };
            Value::from(!text.is_empty() && text.chars().all(counts))
        }
        "splitlines" => {
            let (args, kwargs): (Rest<Value>, Kwargs) = from_args(args)?;
            let (keeps,): (Option<bool>,) = from_args(&args)?;
            let keeps = keeps.or(kwargs.get("keepends")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            let line = |(line, whole)| Value::from(if keeps { whole } else { line });
            lines(text).into_iter().map(line).collect()
        }
        // Its fields may be of any width.
        "format" => return Err(Error::from(ErrorKind::UnknownMethod)),
        _ => {
            return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
        }
    })
}

/// What `dict.items`, `dict.keys` and `dict.values` give.
fn view(dict: &Value, name: &str) -> Result<Value, Error> {
    let pairs = dict.as_object().and_then(|dict| dict.try_iter_pairs());
    let pairs = pairs.ok_or_else(|| Error::from(ErrorKind::UnknownMethod))?;
    Ok(match name {
        "keys" => Sequence::value(Kind::View("dict_keys"), pairs.map(|(key, _)| key)),
        "values" => Sequence::value(Kind::View("dict_values"), pairs.map(|(_, value)| value)),
        _ => {
            let items = pairs.map(|(key, value)| Sequence::tuple([key, value]));
            Sequence::value(Kind::View("dict_items"), items)
        }
    })
}

/// `value[::-1]`.
fn reversed(value: &Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return Ok(Value::from(text.chars().rev().collect::<String>()));
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(invalid(format!("{} cannot be sliced", value.kind())));
    }
    let mut items: Vec<Value> = value.try_iter()?.collect();
    items.reverse();
    Ok(Value::from(items))
}

/// What Python's `str.isspace` calls white space.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The lines of a text, without and with what ends them.
pub(super) fn lines(text: &str) -> Vec<(&str, &str)> {
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find(ends).unwrap_or(rest.len());
        let tail = &rest[at..];
        let width = match tail.starts_with("\r\n") {
            true => 2,
            false => tail.chars().next().map_or(0, char::len_utf8),
        };
        found.push((&rest[..at], &rest[..at + width]));
        rest = &rest[at + width..];
    }
    found
}

/// `str.strip`, of one side or both.
pub(super) fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left {
        text.trim_start_matches(goes)
    } else {
        text
    };
    if right {
        text.trim_end_matches(goes)
    } else {
        text
    }
}

/// `str.split` and `str.rsplit`.
fn split(
    text: &str,
    separator: Option<&str>,
    count: Option<usize>,
    from_right: bool,
) -> Result<Value, Error> {
    let most = count.map_or(usize::MAX, |count| count.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(invalid("empty separator")),
        Some(separator) if from_right => text.rsplitn(most, separator).collect(),
        Some(separator) => text.splitn(most, separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = strip(text, None, !from_right, from_right);
            while !rest.is_empty() {
                let cut = match from_right {
                    false => rest.find(is_space),
                    true => rest.rfind(is_space),
                };
                let Some(at) = cut.filter(|_| parts.len() + 1 < most) else {
                    parts.push(rest);
                    break;
                };
                let width = rest[at..].chars().next().map_or(1, char::len_utf8);
                let (before, after) = (&rest[..at], &rest[at + width..]);
                if from_right {
                    parts.push(after);
                    rest = strip(before, None, false, true);
                } else {
                    parts.push(before);
                    rest = strip(after, None, true, false);
                }
            }
            parts
        }
    };
    if from_right {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}
