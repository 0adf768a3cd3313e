//! What a template may use up: bytes that it builds and writes, and the depth of what it builds.
//!
//! Fuel bounds instructions; these bound what an instruction can do.

use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Object, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::sequence::Sequence;
use super::source::CHECK;

/// Bytes that one rendering may build and write, all in all.
const MAX_BYTES: usize = 128 << 20;
/// Longest string that may have a name, in bytes.
const MAX_STRING: usize = 8 << 20;
/// Most values that a named value may hold.
const MAX_VALUES: usize = 100_000;
/// How deep these may be nested: dropping, printing and comparing them is recursive.
const MAX_DEPTH: usize = 32;

/// Bytes used so far; one for each rendering.
#[derive(Debug, Default)]
struct Used(AtomicUsize);

impl Object for Used {}

/// Counts `bytes` that are built or written.
///
/// # Errors
/// When the rendering has used up what it may.
pub(super) fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let used = state.get_or_set_temp_object("used", Used::default);
    let before = used.0.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) > MAX_BYTES || bytes > MAX_BYTES {
        return Err(Error::new(
            ErrorKind::WriteFailure,
            format!("it builds more than {} MiB of text", MAX_BYTES >> 20),
        ));
    }
    Ok(())
}

/// Adds the checks that [`super::source`] writes into a template with `literals` bytes outside tags.
pub(super) fn add_checks(environment: &mut Environment<'static>, literals: usize) {
    environment.add_filter(
        CHECK,
        |state: &State<'_, '_>, value: Value, in_namespace: bool| {
            check(state, &value, in_namespace)?;
            Ok::<_, Error>(value)
        },
    );
    environment.add_function(CHECK, move |state: &State<'_, '_>, values: Value| {
        charge(state, literals + 64)?;
        values
            .try_iter()?
            .try_for_each(|value| check(state, &value, false))
    });
}

fn check(state: &State<'_, '_>, value: &Value, in_namespace: bool) -> Result<(), Error> {
    let mut left = MAX_VALUES;
    measure(value, in_namespace, MAX_DEPTH, &mut left)?;
    charge(
        state,
        16 * (MAX_VALUES - left) + value.as_str().map_or(0, str::len),
    )
}

fn measure(value: &Value, in_namespace: bool, depth: usize, left: &mut usize) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::new(ErrorKind::InvalidOperation, reason));
    if let Some(text) = value.as_str() {
        return match text.len() > MAX_STRING {
            true => refuse(format!("it builds a string of {} bytes", text.len())),
            false => Ok(()),
        };
    }
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    if is_namespace(value) {
        // A namespace that holds itself has no end.
        return match in_namespace || depth < MAX_DEPTH {
            true => refuse("a namespace inside another value is not supported".to_owned()),
            false => Ok(()),
        };
    }
    if depth == 0 {
        return refuse(format!("it nests values more than {MAX_DEPTH} deep"));
    }
    let is_map = value.kind() == ValueKind::Map;
    let pairs = match is_map {
        true => object.try_iter_pairs(),
        false => None,
    };
    let items: Box<dyn Iterator<Item = Value>> = match (pairs, is_map) {
        // Looking at a generator would spend it.
        _ if Sequence::of(value).is_some() => Box::new(
            Sequence::of(value)
                .into_iter()
                .flat_map(|it| it.items.iter().cloned()),
        ),
        (Some(pairs), _) => Box::new(pairs.map(|(_, value)| value)),
        (None, false) if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) => {
            match object.try_iter() {
                Some(items) => items,
                None => return Ok(()),
            }
        }
        _ => return Ok(()),
    };
    for item in items {
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => return refuse(format!("it builds lists of more than {MAX_VALUES} values")),
        }
        measure(&item, in_namespace, depth - 1, left)?;
    }
    Ok(())
}

/// Whether `value` is what `namespace()` makes.
pub(super) fn is_namespace(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.type_name().ends_with("::Namespace"))
}
