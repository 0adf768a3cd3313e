//! What packed weights consist of.

use half::f16;

use super::simd::LANES;

/// Columns of int8 that one 32-bit element covers.
pub(crate) const QUAD: usize = 4;

/// 16 f32, aligned to a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

/// 16 f16, aligned to half a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct HalfLanes(pub(crate) [f16; LANES]);

/// Four columns of 16 rows of int8, or 32 scales: a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; LANES * QUAD]);
