//! Packing weights for the GPU's kernels.

use std::sync::Arc;

use half::f16;
use mor_config::{ModelConfig, Positions, QUANTIZED_BLOCK};
use mor_shaders::{Dense, Storage};

use super::parts::{GpuLinear, GpuMatrix, GpuPositions, RouterLayout};
use crate::gpu::device::{Gpu, STORAGE, Slice, stride};
use crate::model::{
    Linear, Norm, NormOrder, PositionTable, Router, Source, Stored, Tensor, TensorSource,
    WeightPrecision,
};
use crate::{EngineError, Result};

/// Columns that are packed at once: a block of int8 values with one scale.
const COLUMNS: usize = QUANTIZED_BLOCK;

/// A matrix that was uploaded, and its values where they are needed again.
pub(super) struct Uploaded {
    pub(super) matrix: GpuMatrix,
    /// Of routers, whose layers are packed once more for `shaders/route.wgsl`; else empty.
    values: Vec<f32>,
}

/// Packs for the GPU's kernels.
pub(super) struct GpuSource<'g, 'a> {
    pub(super) gpu: &'g Arc<Gpu>,
    pub(super) tensor: &'g TensorSource<'a>,
    pub(super) precision: WeightPrecision,
    /// Stands for all that would be uploaded, where shapes alone are wanted.
    pub(super) blank: Option<Slice>,
}

impl Source for GpuSource<'_, '_> {
    type Matrix = Uploaded;

    fn matrix(&self, names: &[&str], cols: usize) -> Result<Uploaded> {
        let parts: Result<Vec<_>> = names.iter().map(|name| (self.tensor)(name)).collect();
        let parts = parts?;
        let all = |stored| parts.iter().all(|part| part.stored() == stored);
        let storage = match self.precision {
            WeightPrecision::F16 if !self.gpu.unpacks_f16 => {
                return Err(EngineError::MissingFeature {
                    adapter: self.gpu.description().to_string(),
                    feature: "way to unpack f16 weights",
                    remedy: "use --dtype f32 or q8",
                });
            }
            WeightPrecision::F16 => Storage::F16,
            WeightPrecision::Q8 => Storage::Q8,
            WeightPrecision::AsStored if all(Stored::Q8) => Storage::Q8,
            WeightPrecision::AsStored if all(Stored::F16) && self.gpu.unpacks_f16 => Storage::F16,
            WeightPrecision::AsStored | WeightPrecision::F32 => Storage::F32,
        };
        let routers = names.iter().any(|name| name.contains("router"));
        let mut values = Vec::new();
        if routers && self.blank.is_none() {
            for part in &parts {
                let mut some = vec![0.0; part.len()];
                part.read(0, &mut some);
                values.extend_from_slice(&some);
            }
        }
        // As exact as they come: they are small, and a decision is all or nothing.
        let storage = if routers { Storage::F32 } else { storage };
        let name = names.first().copied().unwrap_or("weights");
        let matrix = self.upload(name, &parts, cols, storage)?;
        Ok(Uploaded { matrix, values })
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        (self.tensor)(name)?.into_f32()
    }
}

impl GpuSource<'_, '_> {
    /// Matrices `[_, cols]`, one below the other.
    fn upload(
        &self,
        name: &str,
        parts: &[Tensor<'_>],
        cols: usize,
        storage: Storage,
    ) -> Result<GpuMatrix> {
        // As rows of what it is multiplied with.
        let columns = stride(cols);
        let rows: usize = parts.iter().map(|part| part.len() / cols.max(1)).sum();
        let matrix = |slice| GpuMatrix {
            slice,
            rows: rows as u32,
            columns: columns as u32,
            storage,
        };
        let size = storage.bytes(rows, columns);
        self.gpu.fits(name, size, STORAGE)?;
        if let Some(blank) = &self.blank {
            return Ok(matrix(blank.clone()));
        }
        let kept = match storage {
            Storage::F32 => Stored::F32,
            Storage::F16 => Stored::F16,
            Storage::Q8 => Stored::Q8,
        };
        let mut bytes = Vec::with_capacity(size as usize);
        let mut scales = Vec::new();
        for part in parts {
            for at in (0..part.len()).step_by(cols.max(1)) {
                part.check(at..at + cols.max(1), kept)?;
                for col in (0..columns).step_by(COLUMNS) {
                    let width = cols.saturating_sub(col).min(COLUMNS);
                    let at = at + col.min(cols);
                    match storage {
                        Storage::F32 => {
                            let mut block = [0.0_f32; COLUMNS];
                            part.read(at, &mut block[..width]);
                            bytes.extend_from_slice(bytemuck::cast_slice(&block));
                        }
                        Storage::F16 => {
                            let mut block = [f16::ZERO; COLUMNS];
                            part.read_f16(at, &mut block[..width]);
                            bytes.extend_from_slice(bytemuck::cast_slice(&block));
                        }
                        Storage::Q8 => {
                            let mut block = [0_i8; COLUMNS];
                            // Padding alone has no scale.
                            scales.push(match width {
                                0 => f16::ZERO,
                                _ => part.read_q8(at, &mut block[..width]),
                            });
                            bytes.extend_from_slice(bytemuck::cast_slice(&block));
                        }
                    }
                }
            }
            part.release(0..part.len());
        }
        if scales.len() % 2 == 1 {
            scales.push(f16::ZERO);
        }
        bytes.extend_from_slice(bytemuck::cast_slice(&scales));
        self.gpu.upload(name, &bytes).map(matrix)
    }

    /// The table of token embeddings, which is the head's where they are tied. Adaptive embeddings are multiplied
    /// out: the GPU holds one table.
    pub(super) fn table(
        &self,
        config: &ModelConfig,
        name: &str,
        head: &GpuMatrix,
    ) -> Result<GpuMatrix> {
        if config.tie_word_embeddings {
            return Ok(head.clone());
        }
        let dim = config.hidden_size;
        if config.adaptive_embedding.is_none() {
            return Ok(self.matrix(&[&format!("{name}.weight")], dim)?.matrix);
        }
        let storage = Storage::F32;
        let len = config.vocab_size.saturating_mul(dim);
        // Products of zeros would take as long.
        if self.blank.is_some() {
            return self.upload(name, &[Tensor::zeros(Stored::F32, len)], dim, storage);
        }
        let size = storage.bytes(config.vocab_size, stride(dim));
        self.gpu.fits(name, size, STORAGE)?;
        let mut table = Vec::with_capacity(len);
        for (band, (_, width)) in config.embedding_bands().into_iter().enumerate() {
            let rows = self.values(&format!("{name}.emb_layers.{band}.weight"))?;
            let projection = self.values(&format!("{name}.emb_projs.{band}.weight"))?;
            for row in rows.chunks_exact(width.max(1)) {
                let columns = projection.chunks_exact(width.max(1));
                table.extend(
                    columns.map(|column| row.iter().zip(column).map(|(a, b)| a * b).sum::<f32>()),
                );
            }
        }
        self.upload(name, &[Tensor::made(table)], dim, storage)
    }

    pub(super) fn positions(&self, config: &ModelConfig) -> Result<GpuPositions> {
        let dim = config.hidden_size;
        let rotary = config.positions == Positions::Rotary;
        let width = if rotary {
            config.head_dim()
        } else {
            stride(dim)
        };
        let size = Storage::F32.bytes(config.max_position_embeddings, width);
        self.gpu.fits("positions", size, STORAGE)?;
        if let Some(blank) = &self.blank {
            return Ok(match rotary {
                true => GpuPositions::Rotary(blank.clone()),
                false => GpuPositions::Added(blank.clone()),
            });
        }
        Ok(match PositionTable::load(config, self)? {
            PositionTable::Added(table) => {
                let mut rows = Vec::with_capacity(table.len() / dim.max(1) * stride(dim));
                for row in table.chunks_exact(dim.max(1)) {
                    rows.extend_from_slice(row);
                    rows.resize(rows.len().next_multiple_of(stride(dim)), 0.0);
                }
                GpuPositions::Added(self.floats("positions", &rows)?)
            }
            PositionTable::Rotary { cos, sin } => {
                let pairs: Vec<f32> = cos.iter().zip(&sin).flat_map(|(c, s)| [*c, *s]).collect();
                GpuPositions::Rotary(self.floats("rotary angles", &pairs)?)
            }
        })
    }

    pub(super) fn floats(&self, what: &str, values: &[f32]) -> Result<Slice> {
        if let Some(blank) = &self.blank {
            return Ok(blank.clone());
        }
        self.gpu.upload(what, bytemuck::cast_slice(values))
    }

    pub(super) fn upload_norm(&self, norm: &Norm) -> Result<Slice> {
        self.floats("a layer norm", &packed_norm(norm))
    }

    pub(super) fn place(&self, linear: Linear<Uploaded>) -> Result<GpuLinear> {
        Ok(GpuLinear {
            bias: match linear.bias.is_empty() {
                true => None,
                false => Some(self.floats("a bias", &linear.bias)?),
            },
            matrix: linear.matrix.matrix,
        })
    }

    /// Packs a layer's router behind those of the layers before; see [`super::RouteWeights`]. `owed` is the norm that the layer
    /// before leaves to be done.
    pub(super) fn route(
        &self,
        router: &Router<Uploaded>,
        owed: Option<&Norm>,
        order: NormOrder,
        dim: usize,
        packed: &mut Vec<f32>,
    ) -> RouterLayout {
        let mut next = 0;
        let norm = (order == NormOrder::Post).then(|| {
            // The first layer is owed nothing, but all have the same parts.
            match owed {
                Some(norm) => packed.extend_from_slice(&packed_norm(norm)),
                None => packed.resize(packed.len() + 2 * stride(dim), 0.0),
            }
            next += 2 * stride(dim);
            0
        });
        let mut dense = |linear: &Linear<Uploaded>, inputs: usize| {
            let values = &linear.matrix.values;
            let outputs = linear.matrix.matrix.rows as usize;
            let at = next as u32;
            next += (inputs + 1) * outputs;
            if self.blank.is_none() {
                // Neighbouring lanes make neighbouring outputs, and so read neighbouring weights.
                packed.extend((0..inputs).flat_map(|input| {
                    (0..outputs).map(move |output| values[output * inputs + input])
                }));
                packed.extend_from_slice(&linear.bias[..outputs.min(linear.bias.len())]);
            }
            Dense {
                at,
                inputs: inputs as u32,
                outputs: outputs as u32,
            }
        };
        let pooler = router.pooler.as_ref().map(|pooler| dense(pooler, dim));
        let pooled = pooler.map_or(dim, |pooler| pooler.outputs as usize);
        let hidden = dense(&router.hidden, pooled);
        let classes = dense(&router.output, hidden.outputs as usize);
        RouterLayout {
            stride: next as u32,
            norm,
            pooler,
            hidden,
            classes,
        }
    }
}

/// Gain, then bias, each padded.
fn packed_norm(norm: &Norm) -> Vec<f32> {
    let width = stride(norm.gain.len());
    let mut values = norm.gain.clone();
    values.resize(width, 0.0);
    values.extend_from_slice(&norm.bias);
    values.resize(2 * width, 0.0);
    values
}
