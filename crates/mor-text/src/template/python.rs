//! What Jinja has from Python: filters, tests and methods, as transformers' templates use them.

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

use super::bounds::charge;
use super::json::printed;
use super::methods::method;
use super::operators::{TEXT, TUPLE};
use super::sequence::Sequence;
use super::{case, filters};

/// Makes `environment` that of transformers, as far as values go.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.set_formatter(write);
    environment.set_unknown_method_callback(method);
    environment.remove_global("debug");
    filters::add(environment);
    environment.add_function(TUPLE, |items: Rest<Value>| Sequence::tuple(items.0));
    environment.add_filter(TEXT, |state: &State<'_, '_>, value: Value| {
        text_of(state, &value)
    });
    environment.add_function("range", Sequence::range);
    // Unknown to Jinja.
    for name in [
        "startingwith",
        "endingwith",
        "containing",
        "safe",
        "escaped",
        "int",
    ] {
        environment.remove_test(name);
    }
    environment.add_test("lower", |state: &State<'_, '_>, value: Value| {
        text_of(state, &value).map(|text| case::is_lower(&text))
    });
    environment.add_test("upper", |state: &State<'_, '_>, value: Value| {
        text_of(state, &value).map(|text| case::is_upper(&text))
    });
    environment.add_test("number", |value: Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    environment.add_test("iterable", |value: Value| {
        use ValueKind::{Iterable, Map, Seq, String, Undefined};
        matches!(value.kind(), Iterable | Map | Seq | String | Undefined)
    });
    environment.add_test("sequence", |value: Value| {
        use ValueKind::{Map, Seq, String, Undefined};
        matches!(value.kind(), Map | Seq | String | Undefined)
    });
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<String, Error> { Err(invalid(message)) },
    );
}

pub(super) fn invalid(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
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
pub(super) fn text_of(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None => printed(value)?,
    };
    charge(state, text.len())?;
    Ok(text)
}
