//! What every device is held to: the golden vectors of the two original models, small random models of all
//! families, and the recursive family's formulas in f64. `mor selftest` and the tests of the engine read them from here, so that both check the same numbers. They are
//! compiled in: nothing is read from disk.
//!
//! - [`GoldenSet`]: weights and cases of an original model; `tests/goldens/README.md` lists their tensors.
//! - [`GoldenRow`], [`GoldenText`]: those that a device without batches can run, as tables.
//! - [`technical`], [`conversational`], [`recursive`], [`random_weights`]: small models whose weights follow from nothing but their shapes.
//!
//! ```
//! let set = mor_goldens::GoldenSet::Technical;
//! for row in set.rows()? {
//!     assert_eq!(row.logits.len(), row.ids.len(), "{}", row.what);
//! }
//! # Ok::<(), mor_config::ConfigError>(())
//! ```

mod cases;
mod files;
mod recursive;
mod small;

pub use cases::{END, GoldenRow, GoldenText};
pub use files::{GoldenSet, rows};
pub use recursive::{Loops, RecursiveOutput, run_recursive};
pub use small::{
    Named, conversational, random_weights, recursive, routed_configs, stored_as, technical,
};
