//! Tensors as a weights file holds them, read row by row.

use std::ops::Range;

use half::{bf16, f16};
use mor_config::{Floats, QUANTIZED_BLOCK, Weights, quantize_block};
use safetensors::Dtype;

use crate::Result;

/// Values of a tensor: borrowed from a file, or made up.
pub(crate) struct Tensor<'a> {
    values: Values<'a>,
    /// Where they are borrowed from, and under which name.
    file: Option<(&'a Weights, String)>,
}

enum Values<'a> {
    Made(Vec<f32>),
    /// As many zeros, as if they were stored so.
    #[cfg(feature = "gpu")]
    Zeros(Stored, usize),
    F32(&'a [[u8; 4]]),
    F16(&'a [[u8; 2]]),
    Bf16(&'a [[u8; 2]]),
    /// Values, and f16 scales for each block of a row of `cols`.
    Q8 {
        values: &'a [u8],
        scales: &'a [[u8; 2]],
        cols: usize,
    },
}

/// How a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Q8,
}

impl<'a> Tensor<'a> {
    /// A tensor of a file.
    ///
    /// # Errors
    /// [`crate::EngineError::Config`] when it is missing or of no type that weights have.
    pub(crate) fn open(file: &'a Weights, name: &str) -> Result<Self> {
        let (dtype, shape, bytes) = file.raw(name)?;
        let values = match (file.quantized(name)?, dtype) {
            (Some((values, scales)), _) => Values::Q8 {
                values,
                scales: scales.as_chunks().0,
                cols: shape[1],
            },
            (None, Dtype::F32) => Values::F32(bytes.as_chunks().0),
            (None, Dtype::F16) => Values::F16(bytes.as_chunks().0),
            (None, Dtype::BF16) => Values::Bf16(bytes.as_chunks().0),
            // Says what is wrong.
            (None, _) => Values::Made(file.to_f32(name)?),
        };
        Ok(Self {
            values,
            file: Some((file, name.to_owned())),
        })
    }

    /// A tensor without a file.
    pub(crate) fn made(values: Vec<f32>) -> Self {
        Self {
            values: Values::Made(values),
            file: None,
        }
    }

    /// Stands for a tensor of which no more is known.
    #[cfg(feature = "gpu")]
    pub(crate) fn zeros(stored: Stored, len: usize) -> Self {
        Self {
            values: Values::Zeros(stored, len),
            file: None,
        }
    }

    pub(crate) fn stored(&self) -> Stored {
        match self.values {
            #[cfg(feature = "gpu")]
            Values::Zeros(stored, _) => stored,
            Values::Made(_) | Values::F32(_) | Values::Bf16(_) => Stored::F32,
            Values::F16(_) => Stored::F16,
            Values::Q8 { .. } => Stored::Q8,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Made(values) => values.len(),
            #[cfg(feature = "gpu")]
            Values::Zeros(_, len) => *len,
            Values::F32(values) => values.len(),
            Values::F16(values) | Values::Bf16(values) => values.len(),
            Values::Q8 { values, .. } => values.len(),
        }
    }

    /// All values.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn into_f32(self) -> Result<Vec<f32>> {
        if let Values::Made(values) = self.values {
            return Ok(values);
        }
        self.check(0..self.len(), Stored::F32)?;
        let mut out = vec![0.0; self.len()];
        self.read(0, &mut out);
        Ok(out)
    }

    /// Refuses values of a file that are not finite, or that `kept`, which they are packed as, cannot hold. For int8,
    /// `part` is whole rows, and of these the scales decide. To be called while the values are read anyway.
    ///
    /// # Errors
    /// [`crate::EngineError::Config`], naming the tensor.
    pub(crate) fn check(&self, part: Range<usize>, kept: Stored) -> Result<()> {
        let Some((file, name)) = &self.file else {
            return Ok(());
        };
        let largest = match &self.values {
            Values::Made(_) => return Ok(()),
            #[cfg(feature = "gpu")]
            Values::Zeros(..) => return Ok(()),
            Values::F32(values) => Floats::F32(&values[part]).largest(),
            Values::F16(values) => Floats::F16(&values[part]).largest(),
            Values::Bf16(values) => Floats::Bf16(&values[part]).largest(),
            Values::Q8 { scales, cols, .. } => {
                let blocks = cols.div_ceil(QUANTIZED_BLOCK);
                let rows = part.start / cols..part.end.div_ceil(*cols);
                let scales = &scales[rows.start * blocks..rows.end * blocks];
                Floats::F16(scales).largest() * f32::from(i8::MAX)
            }
        };
        file.check_largest(name, largest)?;
        let (most, kept) = match kept {
            Stored::F32 => return Ok(()),
            Stored::F16 => (f16::MAX.to_f32(), "f16"),
            Stored::Q8 => (f16::MAX.to_f32() * f32::from(i8::MAX), "q8"),
        };
        match largest > most {
            true => Err(file
                .error(format!(
                    "tensor `{name}` holds {largest}, which {kept} cannot; use f32"
                ))
                .into()),
            false => Ok(()),
        }
    }

    /// Values from the one at `at` on, which for int8 lie in whole blocks of rows.
    pub(crate) fn read(&self, at: usize, out: &mut [f32]) {
        let part = at..at + out.len();
        match &self.values {
            Values::Made(values) => out.copy_from_slice(&values[part]),
            #[cfg(feature = "gpu")]
            Values::Zeros(..) => out.fill(0.0),
            Values::F32(values) => {
                for (out, bytes) in out.iter_mut().zip(&values[part]) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Values::F16(values) => {
                for (out, bytes) in out.iter_mut().zip(&values[part]) {
                    *out = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            Values::Bf16(values) => {
                for (out, bytes) in out.iter_mut().zip(&values[part]) {
                    *out = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Values::Q8 {
                values,
                scales,
                cols,
            } => {
                let blocks = cols.div_ceil(QUANTIZED_BLOCK);
                let mut done = 0;
                while done < out.len() {
                    let (row, col) = ((at + done) / cols, (at + done) % cols);
                    let width = (cols - col).min(QUANTIZED_BLOCK).min(out.len() - done);
                    let scale = scales[row * blocks + col / QUANTIZED_BLOCK];
                    let scale = f16::from_le_bytes(scale).to_f32();
                    let from = &values[at + done..][..width];
                    for (out, value) in out[done..][..width].iter_mut().zip(from) {
                        *out = f32::from(value.cast_signed()) * scale;
                    }
                    done += width;
                }
            }
        }
    }

    /// As [`Self::read`], rounded to f16; at most a block.
    pub(crate) fn read_f16(&self, at: usize, out: &mut [f16]) {
        if let Values::F16(values) = &self.values {
            for (out, bytes) in out.iter_mut().zip(&values[at..]) {
                *out = f16::from_le_bytes(*bytes);
            }
            return;
        }
        let mut values = [0.0; QUANTIZED_BLOCK];
        let values = &mut values[..out.len()];
        self.read(at, values);
        for (out, value) in out.iter_mut().zip(values) {
            *out = f16::from_f32(*value);
        }
    }

    /// One block of a row as int8, as stored or rounded; returns its scale.
    pub(crate) fn read_q8(&self, at: usize, out: &mut [i8]) -> f16 {
        if let Values::Q8 {
            values,
            scales,
            cols,
        } = &self.values
        {
            for (out, value) in out.iter_mut().zip(&values[at..]) {
                *out = value.cast_signed();
            }
            let (row, col) = (at / cols, at % cols);
            let block = row * cols.div_ceil(QUANTIZED_BLOCK) + col / QUANTIZED_BLOCK;
            return f16::from_le_bytes(scales[block]);
        }
        let mut values = [0.0; QUANTIZED_BLOCK];
        let values = &mut values[..out.len()];
        self.read(at, values);
        quantize_block(values, out)
    }

    /// Says that a part of the values was read for the last time.
    pub(crate) fn release(&self, part: Range<usize>) {
        if let Some((file, _)) = &self.file {
            match &self.values {
                Values::Made(_) => {}
                #[cfg(feature = "gpu")]
                Values::Zeros(..) => {}
                Values::F32(values) => file.release(values[part].as_flattened()),
                Values::F16(values) | Values::Bf16(values) => {
                    file.release(values[part].as_flattened());
                }
                Values::Q8 { values, .. } => file.release(&values[part]),
            }
        }
    }
}
