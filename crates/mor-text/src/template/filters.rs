//! Filters as Jinja and transformers have them, where minijinja's give other results.

use std::borrow::Cow;

use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Environment, Error, State, Value, filters};

use super::bounds::charge;
use super::case;
use super::json::Json;
use super::methods::{lines, strip};
use super::python::{invalid, text_of};
use super::sequence::Sequence;

/// Widest field and deepest indentation.
const MAX_WIDTH: usize = 1000;

/// What is removed: these allocate what they are asked for, mark text as HTML, give what Jinja does not, or are
/// unknown to it.
const REMOVED: [&str; 12] = [
    "batch", "slice", "format", "pprint", "e", "escape", "safe", "split", "lines", "bool", "chain",
    "zip",
];

/// Filters that take the text of any value.
type TextFilter = (&'static str, fn(&str) -> String);
const TEXT_FILTERS: [TextFilter; 4] = [
    ("lower", str::to_lowercase),
    ("upper", str::to_uppercase),
    ("title", case::title_words),
    ("capitalize", case::capitalize),
];

pub(super) fn add(environment: &mut Environment<'static>) {
    for name in REMOVED {
        environment.remove_filter(name);
    }
    environment.add_filter(
        "trim",
        |state: &State<'_, '_>, value: Value, chars: Option<String>| {
            let text = text_of(state, &value)?;
            Ok::<_, Error>(strip(&text, chars.as_deref(), true, true).to_owned())
        },
    );
    for (name, filter) in TEXT_FILTERS {
        environment.add_filter(name, move |state: &State<'_, '_>, value: Value| {
            text_of(state, &value).map(|text| filter(&text))
        });
    }
    environment.add_filter(
        "replace",
        |state: &State<'_, '_>, value: Value, old: Value, new: Value, count: Option<i64>| {
            let (text, old, new) = (
                text_of(state, &value)?,
                text_of(state, &old)?,
                text_of(state, &new)?,
            );
            replace(state, text, old, new, count)
        },
    );
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |state: &State<'_, '_>, value: Value| {
        text_of(state, &value)
    });
    environment.add_filter("round", round);
    environment.add_filter("min", |state: &State<'_, '_>, value: Value| {
        filters::min(state, without_text(value)?)
    });
    environment.add_filter("max", |state: &State<'_, '_>, value: Value| {
        filters::max(state, without_text(value)?)
    });
    add_generators(environment);
}

/// Filters that give generators in Python.
fn add_generators(environment: &mut Environment<'static>) {
    type Name<'a> = Option<Cow<'a, str>>;
    type Args = Rest<Value>;
    type Made = Result<Value, Error>;
    environment.add_filter(
        "select",
        |state: &State<'_, '_>, value: Value, test: Name<'_>, args: Args| -> Made {
            Ok(Sequence::generator(filters::select(
                state, value, test, args,
            )?))
        },
    );
    environment.add_filter(
        "reject",
        |state: &State<'_, '_>, value: Value, test: Name<'_>, args: Args| -> Made {
            Ok(Sequence::generator(filters::reject(
                state, value, test, args,
            )?))
        },
    );
    environment.add_filter(
        "selectattr",
        |state: &State<'_, '_>,
         value: Value,
         name: Cow<'_, str>,
         test: Name<'_>,
         args: Args|
         -> Made {
            Ok(Sequence::generator(filters::selectattr(
                state, value, name, test, args,
            )?))
        },
    );
    environment.add_filter(
        "rejectattr",
        |state: &State<'_, '_>,
         value: Value,
         name: Cow<'_, str>,
         test: Name<'_>,
         args: Args|
         -> Made {
            Ok(Sequence::generator(filters::rejectattr(
                state, value, name, test, args,
            )?))
        },
    );
    environment.add_filter(
        "map",
        |state: &State<'_, '_>, value: Value, args: Args| -> Made {
            Ok(Sequence::generator(filters::map(state, value, args)?))
        },
    );
    environment.add_filter(
        "unique",
        |state: &State<'_, '_>, value: Value, kwargs: Kwargs| -> Made {
            Ok(Sequence::generator(
                filters::unique(state, value, kwargs)?.try_iter()?,
            ))
        },
    );
    environment.add_filter("reverse", |value: Value| -> Made {
        if value.kind() == ValueKind::Map {
            return Err(invalid("a dict cannot be reversed here"));
        }
        let reversed = filters::reverse(&value)?;
        match reversed.kind() {
            ValueKind::String => Ok(reversed),
            _ => Ok(Sequence::generator(reversed.try_iter()?)),
        }
    });
    environment.add_filter("items", |value: Value| -> Made {
        if value.is_undefined() {
            return Ok(Sequence::generator([]));
        }
        let items = filters::items(&value)?;
        Ok(Sequence::generator(pairs(&items)?))
    });
    environment.add_filter(
        "dictsort",
        |value: Value, kwargs: Kwargs| -> Result<Vec<Value>, Error> {
            pairs(&filters::dictsort(&value, kwargs)?)
        },
    );
}

/// Lists of two as tuples.
fn pairs(items: &Value) -> Result<Vec<Value>, Error> {
    let pair = |item: Value| Ok(Sequence::tuple(item.try_iter()?));
    items.try_iter()?.map(pair).collect()
}

/// `str.replace(old, new, count)`, a filter as well.
pub(super) fn replace(
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

/// `values`, which hold no text: minijinja compares it by case.
fn without_text(values: Value) -> Result<Value, Error> {
    let items: Vec<Value> = values.try_iter()?.collect();
    match items.iter().any(|item| item.kind() == ValueKind::String) {
        true => Err(invalid(
            "`min` and `max` are for numbers here; sort text instead",
        )),
        false => Ok(items.into()),
    }
}

/// The filter `round`: `(precision=0, method="common")`, to even where both are as near.
fn round(value: Value, precision: Option<u16>, kwargs: Kwargs) -> Result<Value, Error> {
    let precision = match precision {
        Some(precision) => precision,
        None => kwargs.get::<Option<u16>>("precision")?.unwrap_or(0),
    };
    let method: Option<String> = kwargs.get("method")?;
    kwargs.assert_all_used()?;
    if value.is_integer() && method.as_deref().is_none_or(|it| it == "common") {
        return Ok(value);
    }
    let number = f64::try_from(value)?;
    let scale = 10_f64.powi(i32::from(precision));
    let rounded = match method.as_deref() {
        Some("ceil") => (number * scale).ceil() / scale,
        Some("floor") => (number * scale).floor() / scale,
        // The digits of the exact value, as Python rounds them.
        None | Some("common") => format!("{number:.*}", usize::from(precision.min(400)))
            .parse()
            .unwrap_or(number),
        Some(_) => return Err(invalid("method must be common, ceil or floor")),
    };
    Ok(Value::from(rounded))
}

/// The filter `join`: `(d="", attribute=None)`.
pub(super) fn join(
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
pub(super) fn indent(
    state: &State<'_, '_>,
    text: String,
    args: Rest<Value>,
) -> Result<String, Error> {
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
    for (index, line) in lines(&format!("{text}\n"))
        .into_iter()
        .map(|(line, _)| line)
        .enumerate()
    {
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
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: Value,
    args: Rest<Value>,
) -> Result<String, Error> {
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
