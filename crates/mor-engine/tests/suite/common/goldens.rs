//! The golden cases that an engine without batches can run, for every device.

pub(crate) use mor_goldens::{END, GoldenRow, GoldenText};

use super::golden_set;

/// The rows of a golden model: `m1_learned` or `m2`.
pub(crate) fn golden_rows(set: &str) -> Vec<GoldenRow> {
    golden_set(set).rows().expect("golden files")
}

/// The generations of a golden model.
pub(crate) fn golden_texts(set: &str) -> Vec<GoldenText> {
    golden_set(set).texts().expect("golden files")
}
