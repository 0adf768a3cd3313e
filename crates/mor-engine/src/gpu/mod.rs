//! Decoding on a GPU; nothing here yet but the shape of it.

use mor_config::ModelConfig;

use crate::{Choice, DecodeOptions, Result, SamplingOptions};

/// A context on a GPU. No value of it exists yet.
#[derive(Debug)]
pub enum GpuDecoder {}

#[allow(missing_docs, clippy::unused_async)]
impl GpuDecoder {
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
