//! What Jinja has from Python: filters, tests and methods, as transformers' templates use them.

use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

use super::bounds::{charge, is_namespace};
use super::json::{Json, printed};
use super::source::REVERSED;

/// Widest field and deepest indentation.
const MAX_WIDTH: usize = 1000;

/// Makes `environment` that of transformers, as far as values go.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.set_formatter(write);
    environment.set_unknown_method_callback(method);
    // These allocate what they are asked for, or show what is no template's business.
    for name in ["batch", "slice", "format", "pprint"] {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
    environment.add_filter("trim", |text: String, chars: Option<String>| {
        strip(&text, chars.as_deref(), true, true).to_owned()
    });
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |state: &State<'_, '_>, value: Value| {
        text_of(state, &value)
    });
    environment.add_test("sequence", |value: Value| {
        use ValueKind::{Map, Seq, String};
        matches!(value.kind(), Map | Seq | String)
    });
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<String, Error> { Err(invalid(message)) },
    );
}

fn invalid(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// Writes the value of an expression.
fn write(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        charge(state, text.len())?;
        out.write_str(text)?;
    } else if !value.is_undefined() {
        out.write_str(&text_of(state, value)?)?;
    }
    Ok(())
}

/// `str(value)`.
fn text_of(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None => printed(value)?,
    };
    charge(state, text.len())?;
    Ok(text)
}

/// `str.replace(old, new, count)`, a filter as well.
fn replace(
    state: &State<'_, '_>,
    text: String,
    old: String,
    new: String,
    count: Option<i64>,
) -> Result<String, Error> {
    let count = count.and_then(|count| usize::try_from(count).ok());
    let places = text.matches(old.as_str()).count();
    let places = count.map_or(places, |count| count.min(places));
    charge(
        state,
        text.len().saturating_add(places.saturating_mul(new.len())),
    )?;
    Ok(match count {
        Some(count) => text.replacen(old.as_str(), &new, count),
        None => text.replace(old.as_str(), &new),
    })
}

/// The filter `join`: `(d="", attribute=None)`.
fn join(
    state: &State<'_, '_>,
    items: Value,
    separator: Option<String>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let separator = match separator {
        Some(separator) => separator,
        None => kwargs.get::<Option<String>>("d")?.unwrap_or_default(),
    };
    let attribute: Option<String> = kwargs.get("attribute")?;
    kwargs.assert_all_used()?;
    let mut out = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = match &attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        if index > 0 {
            charge(state, separator.len() + 1)?;
            out.push_str(&separator);
        }
        if !item.is_undefined() {
            out.push_str(&text_of(state, &item)?);
        }
    }
    Ok(out)
}

/// The filter `indent`: `(width=4, first=False, blank=False)`.
fn indent(state: &State<'_, '_>, text: String, args: Rest<Value>) -> Result<String, Error> {
    let (args, kwargs): (Rest<Value>, Kwargs) = from_args(&args)?;
    let argument = |index: usize, name: &str| -> Result<Option<Value>, Error> {
        Ok(args.get(index).cloned().or(kwargs.get(name)?))
    };
    let width = argument(0, "width")?;
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let (first, blank) = (
        is_true(argument(1, "first")?),
        is_true(argument(2, "blank")?),
    );
    kwargs.assert_all_used()?;
    let space = spaces(width.unwrap_or_else(|| Value::from(4)))?;
    let mut out = String::new();
    for (index, line) in format!("{text}\n").lines().enumerate() {
        charge(state, line.len() + space.len() + 1)?;
        if index > 0 {
            out.push('\n');
        }
        if (index > 0 && (blank || !line.is_empty())) || (index == 0 && first) {
            out.push_str(&space);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// An indentation: so many spaces, or a text.
fn spaces(width: Value) -> Result<String, Error> {
    if let Some(text) = width.as_str().filter(|text| text.len() <= MAX_WIDTH) {
        return Ok(text.to_owned());
    }
    match width.as_i64() {
        Some(width) if width <= MAX_WIDTH as i64 => Ok(" ".repeat(width.max(0) as usize)),
        _ => Err(invalid(format!(
            "an indentation is at most {MAX_WIDTH} spaces"
        ))),
    }
}

/// The filter `tojson`: `(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
fn tojson(state: &State<'_, '_>, value: Value, args: Rest<Value>) -> Result<String, Error> {
    let (args, kwargs): (Rest<Value>, Kwargs) = from_args(&args)?;
    let argument = |index: usize, name: &str| -> Result<Option<Value>, Error> {
        let value: Option<Value> = args.get(index).cloned().or(kwargs.get(name)?);
        Ok(value.filter(|value| !value.is_none()))
    };
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ensure_ascii = is_true(argument(0, "ensure_ascii")?);
    let indent = argument(1, "indent")?.map(spaces).transpose()?;
    let separators = argument(2, "separators")?;
    let sort_keys = is_true(argument(3, "sort_keys")?);
    kwargs.assert_all_used()?;
    let separator = |index: usize, default: &str| -> Result<String, Error> {
        let Some(pair) = &separators else {
            return Ok(default.to_owned());
        };
        let text = pair.get_item(&Value::from(index))?;
        text.as_str()
            .map(str::to_owned)
            .ok_or_else(|| invalid("`separators` must be two strings"))
    };
    let between = if indent.is_some() { "," } else { ", " };
    let json = Json {
        ensure_ascii,
        item_separator: separator(0, between)?,
        key_separator: separator(1, ": ")?,
        indent,
        sort_keys,
    };
    let text = json.write(&value)?;
    charge(state, text.len())?;
    Ok(text)
}

/// Methods of strings and dicts. Those that are not here are minijinja's own imitation of Python.
fn method(
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
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
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
            parts.into_iter().map(Value::from).collect()
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
        // Of nothing, minijinja says yes.
        name if name.starts_with("is") && name != "isascii" && text.is_empty() => {
            let () = from_args(args)?;
            Value::from(false)
        }
        // Its fields may be of any width.
        "format" => return Err(Error::from(ErrorKind::UnknownMethod)),
        _ => {
            return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
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

/// `str.strip`, of one side or both.
fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
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
