//! Where vectors are in their sequences, when some of these were left out.

#[cfg(feature = "gpu")]
use std::sync::OnceLock;

#[cfg(feature = "gpu")]
use burn::cubecl::{client::Client, server::Handle};

/// The positions of vectors, one for each of `batch · seq`, for [`super::rotary`].
#[derive(Debug)]
pub struct Positions {
    values: Vec<u32>,
    /// On the GPU, from the first time on that they are wanted there.
    #[cfg(feature = "gpu")]
    uploaded: OnceLock<Handle>,
}

impl Positions {
    /// The positions in memory.
    pub fn values(&self) -> &[u32] {
        &self.values
    }

    /// The least number of positions, counted from 0, that holds all of these.
    #[cfg(feature = "gpu")]
    pub(super) fn reach(&self) -> usize {
        let last = self.values.iter().max();
        last.map_or(0, |last| *last as usize + 1)
    }

    /// The positions as a shader reads them. A process has one GPU.
    #[cfg(feature = "gpu")]
    pub(super) fn on_gpu(&self, client: &Client) -> Handle {
        let upload = || client.create_from_slice(bytemuck::cast_slice(&self.values));
        self.uploaded.get_or_init(upload).clone()
    }
}

impl FromIterator<u32> for Positions {
    fn from_iter<I: IntoIterator<Item = u32>>(positions: I) -> Self {
        Self {
            values: positions.into_iter().collect(),
            #[cfg(feature = "gpu")]
            uploaded: OnceLock::new(),
        }
    }
}
