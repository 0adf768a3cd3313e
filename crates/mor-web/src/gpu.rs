//! A GPU as the worker sees it.

use std::sync::Arc;

use mor_engine::gpu::{Gpu, Variant};
use wasm_bindgen::prelude::*;

use crate::failure::Failure;

/// An opened GPU. Models are put on it, and a model whose GPU is lost goes on with another one.
#[wasm_bindgen]
pub struct MorGpu {
    pub(crate) gpu: Arc<Gpu>,
}

#[wasm_bindgen]
impl MorGpu {
    /// Opens the browser's preferred GPU. `software` says that it is no GPU but the processor, which needs other
    /// kernels; browsers tell the page, and not the engine.
    ///
    /// # Errors
    /// When there is none, or the browser refuses it.
    pub async fn open(software: bool) -> Result<MorGpu, Failure> {
        let variant = software.then_some(Variant::Portable);
        let gpu = Gpu::open_with(variant).await?;
        Ok(Self { gpu })
    }

    /// Which kernels run on it.
    pub fn variant(&self) -> String {
        self.gpu.variant().to_string()
    }

    /// Loses the GPU as a reset of its driver would, at any time: for tests.
    pub fn lose(&self) {
        self.gpu.lose();
    }
}
