//! The kernels of a decoder, compiled for a model and a way to decide depth.

mod block;
mod layout;
mod maker;
mod mode;
mod pipelines;
mod programs;
mod rounds;

pub(crate) use block::{BlockOp, BlockPipelines, Product};
pub(crate) use layout::{header, routes};
pub(crate) use mode::Mode;
pub(crate) use pipelines::{Pipelines, RouterPipelines, SizedPipeline, StepPipelines};
pub(crate) use programs::{LayerPipelines, Programs};
pub(crate) use rounds::check_rounds;
