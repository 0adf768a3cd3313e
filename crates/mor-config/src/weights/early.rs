//! What can be known of a weights file while it arrives.

use std::collections::HashMap;

use safetensors::Dtype;
use serde::Deserialize;

use super::check::least_tensors;
use crate::ModelConfig;

/// Bytes of the longest header that is read before its file is there.
const LONGEST: usize = 1 << 20;

/// The tensors of a `model.safetensors` of which only the beginning is there. Nothing is promised of a file that is not
/// whole: see [`crate::Weights`].
#[derive(Debug)]
pub struct WeightsHeader {
    tensors: HashMap<String, Entry>,
}

/// The file's own metadata have no type.
#[derive(Debug, Deserialize)]
struct Entry {
    dtype: Option<Dtype>,
    #[serde(default)]
    shape: Vec<usize>,
}

impl WeightsHeader {
    /// Reads the header; `None` until `start` holds all of it, and where it is damaged or longer than a megabyte.
    pub fn read(start: &[u8]) -> Option<Self> {
        let (length, rest) = start.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let header = rest.get(..length).filter(|_| length <= LONGEST)?;
        let tensors = serde_json::from_slice(header).ok()?;
        Some(Self { tensors })
    }

    /// The type of a tensor, if there is one of that name.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name)?.dtype
    }

    /// Whether it has every tensor that a configuration asks for, in its shape.
    pub fn fits(&self, config: &ModelConfig) -> bool {
        let shape = |name: &str| self.tensors.get(name).map(|entry| &entry.shape);
        self.tensors.len() >= least_tensors(config)
            && config
                .tensors()
                .iter()
                .all(|spec| shape(&spec.name) == Some(&spec.shape))
    }
}
