//! Incremental decoding with routed depth.
//!
//! The residual stream of all positions passes through the layers in turn; each layer works on the positions
//! whose input is new and says from where on its output is. While no depth changes, a token costs one token's
//! work. How a layer's depth is decided makes the difference: [`sequence`] and [`prefix`] tell how. Either way
//! the result is that of running the whole sequence at once.

mod cache;
mod decoder;
mod forward;
mod layer_state;
mod layer_step;
mod loops;
mod prefix;
mod routing;
mod sequence;

pub use decoder::Decoder;
