//! `model.safetensors`: tensors of an untrusted file, checked once and then borrowed.

use std::path::{Path, PathBuf};

use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::Metadata};

use crate::ConfigError;

mod check;
mod early;
mod finite;
mod header;

pub use check::check_tensors;
pub use early::WeightsHeader;
pub use finite::{Floats, largest_magnitude, not_finite};

/// The bytes of a weights file: owned, or mapped into memory.
#[derive(Debug)]
enum Storage {
    Owned(Vec<u8>),
    #[cfg(feature = "fs")]
    Mapped(memmap2::Mmap),
}

impl Storage {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            #[cfg(feature = "fs")]
            Self::Mapped(map) => map,
        }
    }
}

/// The tensors of a `model.safetensors`, addressed by name.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    storage: Storage,
    metadata: Metadata,
    data_start: usize,
}

impl Weights {
    /// Maps a file into memory; nothing is copied until a tensor is asked for.
    ///
    /// # Errors
    /// [`ConfigError::Io`], or [`ConfigError::Weights`] when the file is damaged.
    #[cfg(feature = "fs")]
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let io = |source| ConfigError::Io {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(io)?;
        // SAFETY: the map is read-only and private. Another process truncating the file while it
        // is mapped would fault, as it would any program that maps its weights.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        Self::new(Storage::Mapped(map), path)
    }

    /// Takes a whole file's bytes. `origin` is what errors call it.
    ///
    /// # Errors
    /// [`ConfigError::Weights`] when they are damaged.
    pub fn from_bytes(bytes: Vec<u8>, origin: &Path) -> Result<Self, ConfigError> {
        Self::new(Storage::Owned(bytes), origin)
    }

    fn new(storage: Storage, path: &Path) -> Result<Self, ConfigError> {
        let bytes = storage.bytes();
        let damaged = |error: &dyn std::fmt::Display| ConfigError::Weights {
            path: path.to_owned(),
            problem: format!(
                "not a whole safetensors file ({error}; {} bytes); copy or download it again",
                bytes.len()
            ),
        };
        header::check(bytes).map_err(|problem| damaged(&problem))?;
        // Checks that offsets are in bounds, ordered, gapless and agree with the shapes.
        let (header, metadata) =
            SafeTensors::read_metadata(bytes).map_err(|error| damaged(&error))?;
        Ok(Self {
            path: path.to_owned(),
            data_start: header + 8,
            storage,
            metadata,
        })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, in file order.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> usize {
        self.storage.bytes().len()
    }

    /// Whether a tensor of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// Shape of a tensor.
    ///
    /// # Errors
    /// [`ConfigError::Weights`] when there is none of that name.
    pub fn shape(&self, name: &str) -> Result<&[usize], ConfigError> {
        self.raw(name).map(|(_, shape, _)| shape)
    }

    /// Element type of a tensor.
    ///
    /// # Errors
    /// [`ConfigError::Weights`] when there is none of that name.
    pub fn dtype(&self, name: &str) -> Result<Dtype, ConfigError> {
        self.raw(name).map(|(dtype, ..)| dtype)
    }

    /// Element type, shape and little-endian bytes of a tensor.
    ///
    /// # Errors
    /// [`ConfigError::Weights`] when there is none of that name.
    pub fn raw(&self, name: &str) -> Result<(Dtype, &[usize], &[u8]), ConfigError> {
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| self.error(format!("has no tensor `{name}`")))?;
        let (start, end) = info.data_offsets;
        let bytes = &self.storage.bytes()[self.data_start + start..self.data_start + end];
        Ok((info.dtype, &info.shape, bytes))
    }

    /// The quantized values and the scales of a matrix `[rows, cols]` of int8: values row by row, and an f16 scale
    /// (two little-endian bytes) for every [`QUANTIZED_BLOCK`] columns of a row, the last block of a row being as
    /// short as it must. `None` where the tensor is not quantized.
    ///
    /// # Errors
    /// [`ConfigError::Weights`] when the tensor is missing, or its scales are missing or of another shape.
    #[allow(clippy::type_complexity)]
    pub fn quantized(&self, name: &str) -> Result<Option<(&[u8], &[u8])>, ConfigError> {
        let (dtype, shape, values) = self.raw(name)?;
        if dtype != Dtype::I8 {
            return Ok(None);
        }
        let scales = scales_of(name);
        let &[rows, cols] = shape else {
            return Err(self.error(format!(
                "tensor `{name}` is int8 of shape {shape:?}; only matrices can be"
            )));
        };
        let expected = [rows, cols.div_ceil(QUANTIZED_BLOCK)];
        match self.raw(&scales)? {
            (Dtype::F16, shape, scales) if shape == expected => Ok(Some((values, scales))),
            (dtype, shape, _) => Err(self.error(format!(
                "tensor `{scales}` is {dtype:?} of shape {shape:?}; expected F16 of shape {expected:?}"
            ))),
        }
    }

    /// A tensor's values, converted to f32 from f32, f16, bf16 or int8 with scales.
    ///
    /// # Errors
    /// [`ConfigError::Weights`] when the tensor is missing or of another type, or a value is not finite.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>, ConfigError> {
        let (dtype, _, bytes) = self.raw(name)?;
        if let Some((values, scales)) = self.quantized(name)? {
            self.check_largest(name, Floats::F16(scales.as_chunks().0).largest())?;
            return Ok(dequantize(values, scales, self.shape(name)?[1]));
        }
        let floats = match dtype {
            Dtype::F32 => Floats::F32(bytes.as_chunks().0),
            Dtype::F16 => Floats::F16(bytes.as_chunks().0),
            Dtype::BF16 => Floats::Bf16(bytes.as_chunks().0),
            other => {
                return Err(self.error(format!(
                    "tensor `{name}` is {other:?}; expected F32, F16, BF16 or I8 with scales"
                )));
            }
        };
        let (values, largest) = floats.widened();
        self.check_largest(name, largest)?;
        Ok(values)
    }

    /// Refuses a tensor whose values, or scales, have this largest magnitude if that is not finite.
    ///
    /// # Errors
    /// [`ConfigError::Weights`], naming the tensor and what it holds.
    pub fn check_largest(&self, name: &str, largest: f32) -> Result<(), ConfigError> {
        match not_finite(name, largest) {
            Some(problem) => Err(self.error(problem)),
            None => Ok(()),
        }
    }

    /// A tensor's integers (i64).
    ///
    /// # Errors
    /// [`ConfigError::Weights`] when the tensor is missing or of another type.
    pub fn to_i64(&self, name: &str) -> Result<Vec<i64>, ConfigError> {
        let (dtype, _, bytes) = self.raw(name)?;
        if dtype != Dtype::I64 {
            return Err(self.error(format!("tensor `{name}` is {dtype:?}; expected I64")));
        }
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().map(|word| i64::from_le_bytes(*word)).collect())
    }

    /// Says that these bytes of the file, as [`Self::raw`] gave them, will hardly be read again. Where the file is
    /// mapped, they stop counting as this process's memory; reading them later works as before.
    #[allow(unsafe_code)]
    pub fn release(&self, bytes: &[u8]) {
        #[cfg(all(unix, feature = "fs"))]
        if let Storage::Mapped(map) = &self.storage {
            let start = (bytes.as_ptr() as usize).wrapping_sub(map.as_ptr() as usize);
            let inside = start
                .checked_add(bytes.len())
                .is_some_and(|end| end <= map.len());
            if inside && !bytes.is_empty() {
                // SAFETY: the map is of a file and read-only, so dropped pages come back with the same contents. What
                // else lies on the first and the last page is only read from the file once more.
                let advised = unsafe {
                    map.unchecked_advise_range(
                        memmap2::UncheckedAdvice::DontNeed,
                        start,
                        bytes.len(),
                    )
                };
                // Advice: where the system refuses, nothing is lost but memory.
                drop(advised);
            }
        }
        #[cfg(not(all(unix, feature = "fs")))]
        let _ = bytes;
    }

    /// An error about this file.
    pub fn error(&self, problem: String) -> ConfigError {
        ConfigError::Weights {
            path: self.path.clone(),
            problem,
        }
    }
}

/// Columns of a quantized matrix that share a scale.
pub const QUANTIZED_BLOCK: usize = 32;

/// Name of the scales of a quantized tensor.
pub(crate) fn scales_of(name: &str) -> String {
    format!("{name}.scales")
}

/// Rounds the block `values` (at most [`QUANTIZED_BLOCK`] of a row) to int8 by a scale of its own, which is returned.
pub fn quantize_block(values: &[f32], quantized: &mut [i8]) -> f16 {
    let largest = values
        .iter()
        .fold(0.0_f32, |max, value| max.max(value.abs()));
    let scale = f16::from_f32(largest / 127.0);
    // Dividing by the scale as it is stored undoes its rounding.
    let inverse = if scale.to_f32() > 0.0 {
        scale.to_f32().recip()
    } else {
        0.0
    };
    for (quantized, value) in quantized.iter_mut().zip(values) {
        *quantized = (value * inverse).round().clamp(-127.0, 127.0) as i8;
    }
    scale
}

fn dequantize(values: &[u8], scales: &[u8], cols: usize) -> Vec<f32> {
    let blocks = cols.div_ceil(QUANTIZED_BLOCK);
    let mut out = Vec::with_capacity(values.len());
    // Without columns there is nothing to do, and no row length to cut by.
    for (row, scales) in values
        .chunks_exact(cols.max(1))
        .zip(scales.chunks_exact(2 * blocks.max(1)))
    {
        for (block, scale) in row.chunks(QUANTIZED_BLOCK).zip(scales.chunks_exact(2)) {
            let scale = f16::from_le_bytes([scale[0], scale[1]]).to_f32();
            out.extend(
                block
                    .iter()
                    .map(|value| f32::from(value.cast_signed()) * scale),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelConfig, Preset, RouterKind};
    use proptest::prelude::*;

    /// A configuration small enough to write out in a test.
    fn tiny() -> ModelConfig {
        let mut config = Preset::TechnicalCard.config();
        config.vocab_size = 11;
        config.hidden_size = 8;
        config.num_hidden_layers = 1;
        config.num_attention_heads = 2;
        config.intermediate_size = 12;
        config.max_position_embeddings = 4;
        config.routing.max_steps = 1;
        config
    }

    fn file(config: &ModelConfig) -> Vec<u8> {
        let tensors: Vec<_> = config
            .tensors()
            .into_iter()
            .map(|spec| {
                let bytes = vec![0_u8; spec.shape.iter().product::<usize>() * 4];
                (spec.name, spec.shape, bytes)
            })
            .collect();
        let views = tensors.iter().map(|(name, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytes);
            (name.as_str(), view.expect("bytes fit the shape"))
        });
        safetensors::serialize(views, None).expect("serializable")
    }

    fn open(bytes: Vec<u8>) -> Result<Weights, ConfigError> {
        Weights::from_bytes(bytes, Path::new("model.safetensors"))
    }

    #[test]
    fn accepts_exactly_its_own_tensors() {
        let config = tiny();
        let weights = open(file(&config)).expect("whole file");
        check_tensors(&config, &weights).expect("fits");

        let mut deeper = config.clone();
        deeper.routing.max_steps = 2;
        let message = check_tensors(&deeper, &weights)
            .expect_err("misses a step")
            .to_string();
        assert!(
            message.contains("`layers.0.step_projections.1.weight` is missing"),
            "{message}"
        );

        let mut tied = config.clone();
        tied.tie_word_embeddings = true;
        check_tensors(&tied, &weights).expect("an unused head is tolerated");
        let mut fixed = config;
        fixed.routing.kind = RouterKind::Fixed;
        check_tensors(&fixed, &weights).expect("unused routers are tolerated");
    }

    #[test]
    fn a_header_tells_before_the_file_is_whole() {
        let config = tiny();
        let mut whole = file(&config);
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")) as usize;
        for end in [0, 7, 8, header - 1] {
            assert!(WeightsHeader::read(&whole[..end]).is_none(), "{end}");
        }
        for end in [header, header + 1, whole.len()] {
            let header = WeightsHeader::read(&whole[..end]).expect("a whole header");
            assert!(header.fits(&config));
            let name = &config.tensors()[0].name;
            assert_eq!(header.dtype(name), Some(Dtype::F32));
            let mut other = config.clone();
            other.hidden_size *= 2;
            assert!(!header.fits(&other));
            other.num_hidden_layers = crate::Limits::LAYERS;
            assert!(!header.fits(&other));
        }
        whole[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(WeightsHeader::read(&whole).is_none());
    }

    #[test]
    fn names_a_truncated_and_an_oversized_header() {
        let whole = file(&tiny());
        let error = open(whole[..whole.len() - 1].to_vec())
            .expect_err("truncated")
            .to_string();
        assert!(
            error.contains("model.safetensors: not a whole safetensors file"),
            "{error}"
        );
        let mut oversized = whole;
        oversized[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(open(oversized).is_err());
        assert!(open(Vec::new()).is_err());
    }

    #[test]
    fn a_value_that_is_not_finite_is_refused_with_its_tensor() {
        let config = tiny();
        let name = &config.tensors()[0].name;
        for (value, says) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "inf")] {
            let mut bytes = file(&config);
            let weights = open(bytes.clone()).expect("whole file");
            let (_, _, tensor) = weights.raw(name).expect("there");
            let end =
                tensor.as_ptr_range().end as usize - weights.storage.bytes().as_ptr() as usize;
            bytes[end - 4..end].copy_from_slice(&value.to_le_bytes());
            let error = open(bytes)
                .expect("whole file")
                .to_f32(name)
                .expect_err(says);
            let expected = format!("tensor `{name}` holds {says}");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }

    proptest! {
        /// Any damage is an error or a readable file; never a panic.
        #[test]
        fn survives_damage(at in 0_usize..2000, value: u8, keep in 0_usize..6000) {
            let config = tiny();
            let mut bytes = file(&config);
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(keep.max(1));
            if let Ok(weights) = open(bytes) {
                let _ = check_tensors(&config, &weights);
                for name in weights.names() {
                    let _ = weights.to_f32(&name);
                }
            }
        }
    }
}
