//! The browser surface of the engine and tokenizer.
//!
//! Made for a dedicated worker: [`WeightsBuffer`] takes the weights as they arrive, [`MorModel`] owns the model and
//! writes answers one token a call, so that the worker can listen between two tokens, and [`MorGpu`] is a GPU it may run
//! on. Every failure is a JavaScript `Error` with a message for a person; its name is `DeviceLost` where a GPU went away, and
//! `DeviceError` where another device may do better.

mod bench;
mod failure;
mod gpu;
mod model;
mod options;

use serde::Serialize;
use wasm_bindgen::prelude::*;

pub use failure::Failure;
pub use gpu::MorGpu;
pub use model::MorModel;

/// Plain data as JavaScript objects; `None` is `null`.
fn to_js(value: &impl Serialize) -> Result<JsValue, Failure> {
    Ok(value.serialize(&serde_wasm_bindgen::Serializer::json_compatible())?)
}

/// Runs when the module is instantiated. A panic is a bug, but even a bug deserves a readable message: without this
/// the browser would only say `unreachable executed`.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        wasm_bindgen::throw_str(&format!("the engine stopped unexpectedly: {panic}"))
    }));
}

/// The bytes of `model.safetensors`, collected inside the module while they download, so that no second copy of them
/// exists outside.
#[wasm_bindgen]
pub struct WeightsBuffer {
    bytes: Vec<u8>,
}

#[wasm_bindgen]
impl WeightsBuffer {
    /// A buffer for `capacity` bytes; it grows if more come.
    ///
    /// # Errors
    /// When the browser does not give that much memory.
    #[wasm_bindgen(constructor)]
    pub fn new(capacity: usize) -> Result<WeightsBuffer, Failure> {
        let mut bytes = Vec::new();
        // Exactly, since the size is known: rounding up could cost as much again.
        bytes
            .try_reserve_exact(capacity)
            .map_err(|_| no_memory(capacity))?;
        Ok(Self { bytes })
    }

    /// Adds the next bytes of the file.
    ///
    /// # Errors
    /// When the browser does not give more memory.
    pub fn append(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        let total = self.bytes.len().saturating_add(chunk.len());
        self.bytes
            .try_reserve(chunk.len())
            .map_err(|_| no_memory(total))?;
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }
}

fn no_memory(bytes: usize) -> Failure {
    Failure::new(&format!(
        "model.safetensors: this browser gives no memory for {bytes} bytes of weights; close other tabs or use a \
         smaller model"
    ))
}
