//! Contexts on a GPU.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use mor_config::{ModelConfig, WEIGHTS_FILE, Weights};
use mor_engine::Context;
use mor_engine::gpu::{Gpu, GpuDecoder, GpuModel};
use pollster::block_on;

use super::Placement;
use crate::commands::probe;

impl Placement {
    /// A context on the fastest GPU, which has been found to compute what the CPU does.
    pub(crate) fn on_gpu(&self) -> Result<Context> {
        let gpu = block_on(Gpu::open())?;
        let config = ModelConfig::from_dir(&self.folder)?;
        let weights = Weights::open(&self.folder.join(WEIGHTS_FILE))?;
        let model = GpuModel::from_parts(Arc::clone(&gpu), config, &weights, self.load.precision);
        let model = Arc::new(block_on(model)?);
        trust(&self.folder, &gpu, &model)?;
        Ok(block_on(GpuDecoder::new(model, self.decode))?.into())
    }
}

/// Compares what a GPU makes of the model of a folder with its probe.
///
/// # Errors
/// [`mor_engine::EngineError::WrongDevice`] when they differ; else as [`probe::of`], or the GPU's.
pub(crate) fn trust(folder: &Path, gpu: &Gpu, model: &Arc<GpuModel>) -> Result<()> {
    let outcome = block_on(probe::of(folder)?.check_gpu(model))?;
    Ok(outcome.trust(&gpu.description().to_string())?)
}
