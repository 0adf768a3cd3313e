//! A GPU as the worker sees it.

use std::path::Path;
use std::sync::Arc;

use mor_config::{CONFIG_FILE, ModelConfig};
use mor_engine::DecodeOptions;
use mor_engine::gpu::{Gpu, GpuModel, Variant};
use wasm_bindgen::prelude::*;

use crate::WeightsBuffer;
use crate::failure::Failure;

/// An opened GPU. Models are put on it, and a model whose GPU is lost goes on with another one.
#[wasm_bindgen]
pub struct MorGpu {
    pub(crate) gpu: Arc<Gpu>,
}

#[wasm_bindgen]
impl MorGpu {
    /// Opens the browser's preferred GPU. `variant` names the kernels to run there (`portable` or `workgroup`)
    /// instead of those that its features suggest: that it is no GPU but the processor, browsers tell the page, and not
    /// the engine.
    ///
    /// # Errors
    /// When there is none, or the browser refuses it, or there is no such variant.
    pub async fn open(variant: Option<String>) -> Result<MorGpu, Failure> {
        let variant = variant.map(|name| name.parse::<Variant>()).transpose();
        let variant = variant.map_err(|error| Failure::new(&error.to_string()))?;
        let gpu = Gpu::open_with(variant).await?;
        Ok(Self { gpu })
    }

    /// Which kernels run on it.
    pub fn variant(&self) -> String {
        self.gpu.variant().to_string()
    }

    /// Has the GPU compile what a model of this `config.json` needs while its weights arrive; false until enough of them
    /// are there to tell how they are stored. Waits for nothing, and what is wrong with the configuration or on the GPU
    /// shows when the model is put there.
    pub fn compile_ahead(&self, config: &[u8], weights: &WeightsBuffer) -> bool {
        let start = &weights.bytes;
        let ahead = || {
            let config = ModelConfig::from_json(config, Path::new(CONFIG_FILE)).ok()?;
            GpuModel::compile_ahead(&self.gpu, &config, start, DecodeOptions::default()).ok()
        };
        ahead().unwrap_or(true)
    }

    /// Waits until it has done all that it was given, compiling included.
    ///
    /// # Errors
    /// The GPU's.
    pub async fn settle(&self) -> Result<(), Failure> {
        Ok(self.gpu.settle().await?)
    }

    /// Gives the GPU back with all that is on it. A model must have left it.
    pub fn close(&self) {
        self.gpu.close();
    }
}
