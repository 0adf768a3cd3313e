//! What Python has beside lists: tuples, ranges, the views of a dict, and generators.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, Value};

use super::python::invalid;

/// Most numbers in a range.
const MAX_RANGE: u64 = 100_000;

/// Values in a row that are no list.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) kind: Kind,
    pub(super) items: Vec<Value>,
    /// Whether a generator was read.
    is_spent: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tuple,
    /// Start, end and step.
    Range(i64, i64, i64),
    /// What the method `items`, `keys` or `values` of a dict gives.
    View(&'static str),
    /// Counts as true, has no length and can be read once.
    Generator,
}

impl Sequence {
    pub(super) fn value(kind: Kind, items: impl IntoIterator<Item = Value>) -> Value {
        Value::from_object(Self {
            kind,
            items: items.into_iter().collect(),
            is_spent: AtomicBool::new(false),
        })
    }

    pub(super) fn tuple(items: impl IntoIterator<Item = Value>) -> Value {
        Self::value(Kind::Tuple, items)
    }

    pub(super) fn generator(items: impl IntoIterator<Item = Value>) -> Value {
        Self::value(Kind::Generator, items)
    }

    /// `range(start, end, step)`, with at most [`MAX_RANGE`] numbers.
    pub(super) fn range(start: i64, end: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
        let (start, end) = end.map_or((0, start), |end| (start, end));
        let step = step.unwrap_or(1);
        let span = if step < 0 {
            start.saturating_sub(end)
        } else {
            end.saturating_sub(start)
        };
        let size = step.unsigned_abs();
        let count = (span.max(0) as u64).checked_add(size.saturating_sub(1));
        let count = count.and_then(|it| it.checked_div(size));
        let Some(count) = count.filter(|count| *count <= MAX_RANGE) else {
            return Err(invalid(format!(
                "a range has at most {MAX_RANGE} numbers, and a step that is not 0"
            )));
        };
        let numbers = (0..count as i64).map(|index| Value::from(start + index * step));
        Ok(Self::value(Kind::Range(start, end, step), numbers))
    }

    /// `value`, if it is of this kind.
    pub(super) fn of(value: &Value) -> Option<&Self> {
        value.downcast_object_ref()
    }
}

impl Object for Sequence {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.kind {
            Kind::Tuple | Kind::Range(..) => ObjectRepr::Seq,
            Kind::View(_) | Kind::Generator => ObjectRepr::Iterable,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match self.kind {
            Kind::Tuple | Kind::Range(..) => self.items.get(key.as_usize()?).cloned(),
            Kind::View(_) | Kind::Generator => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.kind {
            Kind::Tuple | Kind::Range(..) => Enumerator::Seq(self.items.len()),
            Kind::View(_) => Enumerator::Values(self.items.clone()),
            // Without a length, and spent by its first item.
            Kind::Generator => {
                let this = Arc::clone(self);
                let mut next = None;
                Enumerator::Iter(Box::new(std::iter::from_fn(move || {
                    let at = match next {
                        Some(at) => at,
                        None if this.is_spent.swap(true, Ordering::Relaxed) => this.items.len(),
                        None => 0,
                    };
                    next = Some(at + 1);
                    this.items.get(at).cloned()
                })))
            }
        }
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.kind == Kind::Generator || !self.items.is_empty()
    }
}
