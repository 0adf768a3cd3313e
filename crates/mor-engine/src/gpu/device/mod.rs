//! An open GPU: its memory, compiled shaders, and launches that are recorded, submitted and waited for.

mod adapter;
mod buffer;
#[cfg(not(target_arch = "wasm32"))]
mod capabilities;
mod counters;
mod limits;
mod open;
mod pipeline;
mod record;
#[cfg(not(target_arch = "wasm32"))]
mod trial;
mod wait;

pub use adapter::AdapterDescription;
#[cfg(not(target_arch = "wasm32"))]
pub use adapter::adapters;
pub(crate) use buffer::{ALIGN, Buffer, STORAGE, Slice, stride};
#[cfg(not(target_arch = "wasm32"))]
pub use capabilities::{Capabilities, capabilities};
pub use counters::Counters;
pub(crate) use limits::at_least;
pub use open::Gpu;
pub(crate) use pipeline::Pipeline;
pub(crate) use record::{Grid, Launch, Numbers, Params, Reads, Recorder};
#[cfg(not(target_arch = "wasm32"))]
pub use trial::{TrialParams, run_shader};
#[cfg(test)]
pub(crate) use wait::until_idle;
