//! Integration tests as one program: each program would link Burn anew, which takes time and
//! disk space.
//! Apart from it are tests that need a process's random numbers, or its log, for themselves.

#[path = "../common/mod.rs"]
mod common;
mod golden;
#[cfg(feature = "gpu")]
mod gpu;
mod gradient;
mod training;
