//! Decoding on a GPU; nothing here yet but the shape of it, as `mor-web` uses it.
#![allow(missing_docs, clippy::unused_async)]

use std::sync::Arc;

use mor_config::{ModelConfig, Weights};

use crate::{Choice, DecodeOptions, EngineError, Result, SamplingOptions};

#[derive(Debug)]
pub enum Gpu {}

impl Gpu {
    pub async fn open() -> Result<Self> {
        Err(EngineError::Option {
            option: "device",
            value: "gpu".into(),
            allowed: "cpu, as this build has no GPU path",
        })
    }
    pub fn name(&self) -> &str {
        match *self {}
    }
    pub fn variant(&self) -> &str {
        match *self {}
    }
    pub fn destroy(&self) {
        match *self {}
    }
}

#[derive(Debug)]
pub enum GpuModel {}

impl GpuModel {
    pub async fn new(gpu: &Arc<Gpu>, _config: ModelConfig, _weights: &Weights) -> Result<Self> {
        match **gpu {}
    }
}

#[derive(Debug)]
pub enum GpuDecoder {}

impl GpuDecoder {
    pub async fn new(model: Arc<GpuModel>, _options: DecodeOptions) -> Result<Self> {
        match *model {}
    }
    pub fn ids(&self) -> &[u32] {
        match *self {}
    }
    pub fn capacity(&self) -> usize {
        match *self {}
    }
    pub fn config(&self) -> &ModelConfig {
        match *self {}
    }
    pub fn options(&self) -> DecodeOptions {
        match *self {}
    }
    pub async fn with_options(&self, _options: DecodeOptions) -> Result<Self> {
        match *self {}
    }
    pub async fn set_context(&mut self, _ids: &[u32]) -> Result<()> {
        match *self {}
    }
    pub(crate) async fn slide_to(&mut self, _ids: &[u32]) -> Result<()> {
        match *self {}
    }
    pub async fn push(&mut self, _id: u32) -> Result<()> {
        match *self {}
    }
    pub async fn sample(&mut self, _options: &SamplingOptions, _uniform: f32) -> Result<Choice> {
        match *self {}
    }
    pub async fn logits(&mut self) -> Result<Vec<f32>> {
        match *self {}
    }
    pub fn steps(&self) -> &[u8] {
        match *self {}
    }
    pub fn reset(&mut self) {
        match *self {}
    }
}
