//! Devices that are lost while they work.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use mor_config::Preset;
use pollster::block_on;

use super::GpuDecoder;
use crate::gpu::device::{Gpu, until_idle};
use crate::gpu::weights::GpuModel;
use crate::{DecodeOptions, EngineError, WeightPrecision};

thread_local! {
    static FAILING: Cell<bool> = const { Cell::new(false) };
}

/// As wgpu waits for a device that its driver loses.
fn failing(device: &wgpu::Device) -> std::result::Result<wgpu::PollStatus, wgpu::PollError> {
    assert!(
        !FAILING.get(),
        "Error in Device::poll: Parent device is lost"
    );
    until_idle(device)
}

fn gpu() -> Arc<Gpu> {
    let mut gpu = block_on(Gpu::open()).expect("a Vulkan driver");
    Arc::get_mut(&mut gpu).expect("not shared yet").poll = failing;
    FAILING.set(false);
    gpu
}

fn decoder(gpu: &Arc<Gpu>) -> GpuDecoder {
    let mut config = Preset::Technical10m.config();
    config.vocab_size = 512;
    config.hidden_size = 48;
    config.intermediate_size = 64;
    config.num_hidden_layers = 2;
    config.validate(Path::new("test")).expect("valid");
    let model = GpuModel::random(Arc::clone(gpu), config, 1, WeightPrecision::AsStored);
    let model = Arc::new(block_on(model).expect("fits"));
    block_on(GpuDecoder::new(model, DecodeOptions::default())).expect("a decoder")
}

#[test]
fn a_device_that_is_lost_while_it_works_is_an_error() {
    let gpu = gpu();
    let mut decoder = decoder(&gpu);
    block_on(decoder.prefill(&[5, 80, 300])).expect("fits");
    block_on(decoder.logits()).expect("works so far");
    FAILING.set(true);
    block_on(decoder.push(7)).expect("is only recorded");
    let error = block_on(decoder.logits()).expect_err("is lost");
    assert!(matches!(error, EngineError::DeviceLost { .. }), "{error:?}");
    let error = block_on(gpu.settle()).expect_err("is lost");
    assert!(matches!(error, EngineError::DeviceLost { .. }), "{error:?}");
    // Weights of which some must be handed over before the others come.
    gpu.waiting
        .store(usize::MAX / 2, std::sync::atomic::Ordering::Relaxed);
    let error = gpu.upload("weights", &[0; 4]).expect_err("is lost");
    assert!(matches!(error, EngineError::DeviceLost { .. }), "{error:?}");
}

#[test]
fn what_the_driver_said_is_the_reason() {
    let gpu = gpu();
    let mut decoder = decoder(&gpu);
    gpu.lose();
    assert!(!gpu.is_lost(), "nobody has told yet");
    let error = block_on(decoder.prefill(&[5, 80, 300]))
        .and_then(|()| block_on(decoder.logits()))
        .expect_err("is lost");
    assert!(gpu.is_lost());
    FAILING.set(true);
    let later = block_on(gpu.settle()).expect_err("is lost");
    assert_eq!(later.to_string(), error.to_string());
}
