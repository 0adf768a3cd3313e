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

/// Makes tests of functions that take a variant of the kernels, one for each.
macro_rules! on_every_variant {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            use mor_model::gpu::Variant;

            #[test]
            fn portable() {
                super::$name(Variant::Portable);
            }

            #[test]
            fn workgroup() {
                super::$name(Variant::Workgroup);
            }

            #[test]
            fn subgroup() {
                super::$name(Variant::Subgroup);
            }
        })+
    };
}
pub(crate) use on_every_variant;
