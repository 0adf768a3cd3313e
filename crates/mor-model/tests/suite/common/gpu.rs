//! The GPU that tests run on: lavapipe where there is no other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::Device;
use mor_model::gpu::{Variant, set_variant};
use mor_model::{DeviceChoice, open_device};

/// The device, with kernels of this variant for as long as the guard lives: variants are a property of the process.
///
/// Fails where there is no adapter, saying which package to install: a test that skips itself tests nothing.
pub(crate) fn gpu(variant: Variant) -> (Device, MutexGuard<'static, ()>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let chosen = open_device(DeviceChoice::Gpu).unwrap_or_else(|error| panic!("{error}"));
    set_variant(variant);
    (chosen.device, guard)
}
