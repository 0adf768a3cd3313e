//! From token ids to vectors.

use mor_config::ModelConfig;

use super::CpuSource;
use crate::Result;
use crate::cpu::kernels::matmul::Activation;
use crate::cpu::kernels::matrix::Matrix;
use crate::cpu::kernels::{Kernels, Linear};
use crate::model::Source;

/// Where a token's vector comes from.
pub(super) enum TokenEmbedding {
    /// The rows of the output head.
    Tied,
    /// A table of its own, `[vocab, dim]`.
    Table(Matrix),
    /// Tables whose width falls with the frequency of their tokens.
    Adaptive(Vec<Band>),
}

/// Neighbouring ids whose vectors are equally wide.
pub(super) struct Band {
    /// The id after its last.
    end: usize,
    width: usize,
    /// `[ids, width]`, row-major.
    table: Vec<f32>,
    /// From its width to the model's.
    projection: Linear,
}

impl TokenEmbedding {
    pub(super) fn load(config: &ModelConfig, source: &CpuSource<'_>, name: &str) -> Result<Self> {
        if config.tie_word_embeddings {
            return Ok(Self::Tied);
        }
        if config.adaptive_embedding.is_none() {
            let table = source.table(&format!("{name}.weight"), config.hidden_size)?;
            return Ok(Self::Table(table));
        }
        let bands = config.embedding_bands().into_iter().enumerate();
        let bands = bands.map(|(band, (ids, width))| {
            let projection = format!("{name}.emb_projs.{band}");
            Ok(Band {
                end: ids.end,
                width,
                table: source.values(&format!("{name}.emb_layers.{band}.weight"))?,
                projection: source.linear_without_bias(&projection, width)?,
            })
        });
        Ok(Self::Adaptive(bands.collect::<Result<_>>()?))
    }

    /// Writes the vector of an id below the vocabulary's size to `out`, `[dim, padded]`. Only this row of an
    /// adaptive embedding is projected.
    pub(super) fn copy(&self, kernels: &Kernels, head: &Linear, id: u32, out: &mut [f32]) {
        let id = id as usize;
        let dim = head.matrix.cols();
        match self {
            Self::Tied => head.matrix.copy_row(id, &mut out[..dim]),
            Self::Table(table) => table.copy_row(id, &mut out[..dim]),
            Self::Adaptive(bands) => {
                let index = bands.partition_point(|band| band.end <= id);
                let first = index.checked_sub(1).map_or(0, |below| bands[below].end);
                let band = &bands[index];
                let row = &band.table[(id - first) * band.width..][..band.width];
                kernels.vector(&band.projection, row, out, Activation::None);
            }
        }
    }

    /// Bytes of its own tables and projections.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Tied => 0,
            Self::Table(table) => table.bytes(),
            Self::Adaptive(bands) => {
                let bytes = |band: &Band| {
                    size_of_val(band.table.as_slice()) + band.projection.matrix.bytes()
                };
                bands.iter().map(bytes).sum()
            }
        }
    }
}
