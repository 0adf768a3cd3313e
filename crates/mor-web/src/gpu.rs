//! A GPU as the worker sees it.

use std::sync::Arc;

use mor_engine::gpu::Gpu;
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::failure::Failure;
use crate::to_js;

/// An opened GPU. Models are put on it, and a model whose GPU is lost goes on with another one.
#[wasm_bindgen]
pub struct MorGpu {
    pub(crate) gpu: Arc<Gpu>,
}

/// Which GPU it is, as far as the browser tells.
#[derive(Serialize)]
struct Adapter<'a> {
    /// For a person.
    name: &'a str,
    /// Which kernels run on it.
    variant: &'a str,
}

#[wasm_bindgen]
impl MorGpu {
    /// Opens the browser's preferred GPU.
    ///
    /// # Errors
    /// When there is none, or the browser refuses it.
    pub async fn open() -> Result<MorGpu, Failure> {
        let gpu = Gpu::open().await?;
        Ok(Self { gpu: Arc::new(gpu) })
    }

    /// `{name, variant}`: which GPU it is, and which kernels run on it.
    ///
    /// # Errors
    /// Never in practice: plain data converts.
    pub fn adapter(&self) -> Result<JsValue, Failure> {
        to_js(&Adapter {
            name: self.gpu.name(),
            variant: self.gpu.variant(),
        })
    }

    /// Loses the GPU as a crash of its driver would, at any time: for tests.
    pub fn lose(&self) {
        self.gpu.destroy();
    }
}
