//! Contexts on a GPU.

use std::sync::Arc;

use anyhow::Result;
use mor_config::{ModelConfig, WEIGHTS_FILE, Weights};
use mor_engine::Context;
use mor_engine::gpu::{Gpu, GpuDecoder, GpuModel};
use pollster::block_on;

use super::Placement;

impl Placement {
    /// A context on the fastest GPU.
    pub(crate) fn on_gpu(&self) -> Result<Context> {
        let gpu = block_on(Gpu::open())?;
        let config = ModelConfig::from_dir(&self.folder)?;
        let weights = Weights::open(&self.folder.join(WEIGHTS_FILE))?;
        let model = GpuModel::from_parts(gpu, config, &weights, self.load.precision);
        let model = Arc::new(block_on(model)?);
        Ok(block_on(GpuDecoder::new(model, self.decode))?.into())
    }
}
