//! The GPU that tests run on: lavapipe where there is no other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, FloatDType, Tensor};
use mor_model::gpu::{Variant, is_software, set_variant};
use mor_model::{DeviceChoice, open_device, supports_half};

use super::gradients::{close, differentiate};

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

/// Runs an operation with rows stored as f16, in every variant, against f32 on the CPU: as close as the rounding of
/// operands and results lets it be.
pub(crate) fn check_half(
    what: &str,
    operands: &[(Vec<f32>, [usize; 3])],
    tolerance: f32,
    run: impl Fn(&[Tensor<3>], FloatDType) -> Tensor<3>,
) {
    let run = |x: &[Tensor<3>], dtype| run(x, dtype).cast(FloatDType::F32);
    for variant in Variant::ALL {
        let (device, _guard) = gpu(variant);
        if !supports_half(&device) {
            // Training says so and refuses; see its tests.
            assert!(!is_software(), "the adapter of the tests has shader-f16");
            return;
        }
        let found = differentiate(&device, operands, &|x| run(x, FloatDType::F16));
        let expected = differentiate(&Device::flex(), operands, &|x| run(x, FloatDType::F32));
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let what = format!("{variant} f16 {what}, result {at}");
            close(&what, found, expected, tolerance);
        }
    }
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
