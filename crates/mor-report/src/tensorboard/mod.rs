//! Event files for TensorBoard: the figures of `metrics.jsonl` as scalars, histograms and texts.
//!
//! | tag | holds |
//! |---|---|
//! | `train/loss`, `train/bits_per_byte`, `train/learning_rate`, … | the numbers of a step, under their names |
//! | `train/skipped`, `train/spike` | 1 at steps where it happened |
//! | `train/depths` | histogram of the depths taken |
//! | `router/loss`, `router/perplexity` | the router's numbers |
//! | `router/classes`, `router/targets` | histograms of rows by class chosen and by pseudo-class, from 0 |
//! | `validation/loss`, `validation/perplexity`, `validation/bits_per_byte`, `validation/depths` | a validation |
//! | `samples/1`, `samples/2`, … | prompts and answers |

mod convert;
mod proto;
mod record;
mod writer;

pub use writer::EventWriter;
