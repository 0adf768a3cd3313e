//! The adapter, its limits and features; and that both libraries that compute on it can open it.

use mor_engine::gpu::{Gpu, capabilities};
use mor_model::{DeviceChoice, open_device};
use pollster::block_on;

use crate::{Adapter, Context, Outcome};

pub(crate) fn run(context: &mut Context) -> Outcome {
    let found = block_on(capabilities())?;
    let adapter = context.found.adapter.insert(Adapter {
        name: found.description.name.clone(),
        driver: found.description.driver.clone(),
        backend: found.description.backend.to_owned(),
        kind: found.kind,
        vendor: found.vendor,
        device: found.device,
        software: found.description.software,
        variant: String::new(),
        training: String::new(),
        trains_in_f16: false,
        subgroup_sizes: found.subgroup_sizes,
        features: found.features,
        limits: found
            .limits
            .into_iter()
            .map(|(name, limit)| (name.to_owned(), limit))
            .collect(),
    });
    let gpu = block_on(Gpu::open())?;
    adapter.variant = gpu.variant().name().to_owned();
    let training = open_device(DeviceChoice::Gpu)?;
    adapter.training = training.description;
    adapter.trains_in_f16 = training.half;
    Ok(())
}
