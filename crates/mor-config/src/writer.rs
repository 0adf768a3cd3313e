//! Writing weights.

use std::borrow::Cow;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use half::f16;
use mor_files::{AtomicFile, FileError};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::weights::{QUANTIZED_BLOCK, quantize_block, scales_of};
use crate::{ConfigError, Weights};

/// Element type of stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats, as trained.
    #[default]
    F32,
    /// 16-bit floats: half the size.
    F16,
    /// Matrices as int8 with an f16 scale for every [`QUANTIZED_BLOCK`] values of a row, a quarter of the size; the
    /// rest as f32.
    Q8,
}

impl Precision {
    /// The narrowest that some tensor of a file has.
    pub fn of(weights: &Weights) -> Self {
        let names = weights.names();
        let some = |wanted| {
            let found = |name: &String| weights.dtype(name).is_ok_and(|dtype| dtype == wanted);
            names.iter().any(found)
        };
        if some(Dtype::I8) {
            Self::Q8
        } else if some(Dtype::F16) {
            Self::F16
        } else {
            Self::F32
        }
    }
}

/// Writes named f32 tensors as safetensors, whole or not at all.
///
/// # Errors
/// [`ConfigError::Io`], or [`ConfigError::Weights`] when a shape does not fit its values or a value does not fit
/// `precision`.
///
/// ```
/// use mor_config::{Precision, Weights, save_tensors};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// let tensors = [("head.weight".to_owned(), vec![2, 3], vec![1.0; 6])];
/// save_tensors(&path, &tensors, Precision::F16)?;
///
/// let weights = Weights::open(&path)?;
/// assert_eq!(weights.names(), ["head.weight"]);
/// assert_eq!(weights.shape("head.weight")?, [2, 3]);
/// assert_eq!(weights.to_f32("head.weight")?, [1.0; 6]);
/// assert!(weights.to_f32("tail.weight").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save_tensors(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
    precision: Precision,
) -> Result<(), ConfigError> {
    let shapes: Vec<_> = tensors
        .iter()
        .map(|(name, shape, _)| (name.clone(), shape.clone()))
        .collect();
    save_tensors_with(path, &shapes, precision, |index| {
        Ok(Cow::Borrowed(tensors[index].2.as_slice()))
    })
}

/// The bytes that [`save_tensors`] writes. `origin` is what errors call them.
///
/// # Errors
/// [`ConfigError::Weights`] as for [`save_tensors`].
pub fn tensors_to_bytes(
    origin: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
    precision: Precision,
) -> Result<Vec<u8>, ConfigError> {
    let fail = |problem: String| ConfigError::Weights {
        path: origin.to_owned(),
        problem: format!("cannot be written: {problem}"),
    };
    let shapes: Vec<_> = tensors
        .iter()
        .map(|(name, shape, _)| (name.clone(), shape.clone()))
        .collect();
    let (places, mut file) = layout(&shapes, precision).map_err(fail)?;
    let header = file.len();
    for ((name, shape, values), places) in tensors.iter().zip(places) {
        if values.len() != shape.iter().product::<usize>() {
            let problem = format!("`{name}` has {} values, not {shape:?}", values.len());
            return Err(fail(problem));
        }
        let encoded = encode(values, shape, precision)
            .map_err(|problem| fail(format!("`{name}` {problem}")))?;
        for (start, bytes) in places.into_iter().zip(encoded) {
            let (start, end) = (header + start, header + start + bytes.len());
            if file.len() < end {
                file.resize(end, 0);
            }
            file[start..end].copy_from_slice(&bytes);
        }
    }
    Ok(file)
}

/// As [`save_tensors`], but asks for one tensor's values at a time, so that a model of any size needs memory for its
/// largest tensor only. `values` gets the index of a tensor in `tensors` and is called once for each, in order.
///
/// # Errors
/// As [`save_tensors`], and what `values` returns. Nothing is written then.
pub fn save_tensors_with<'a, E: From<ConfigError>>(
    path: &Path,
    tensors: &[(String, Vec<usize>)],
    precision: Precision,
    mut values: impl FnMut(usize) -> Result<Cow<'a, [f32]>, E>,
) -> Result<(), E> {
    let fail = |problem: String| ConfigError::Weights {
        path: path.to_owned(),
        problem: format!("cannot be written: {problem}"),
    };
    let (places, header) = layout(tensors, precision).map_err(fail)?;
    let io = |source| ConfigError::from(FileError::new(path, source));
    let mut file = AtomicFile::create(path).map_err(ConfigError::from)?;
    file.write_all(&header).map_err(io)?;
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let values = values(index)?;
        if values.len() != shape.iter().product::<usize>() {
            let problem = format!("`{name}` has {} values, not {shape:?}", values.len());
            return Err(fail(problem).into());
        }
        let encoded = encode(&values, shape, precision)
            .map_err(|problem| fail(format!("`{name}` {problem}")))?;
        for (start, bytes) in places[index].iter().zip(encoded) {
            let start = (header.len() + start) as u64;
            file.seek(SeekFrom::Start(start)).map_err(io)?;
            file.write_all(&bytes).map_err(io)?;
        }
    }
    Ok(file.commit().map_err(ConfigError::from)?)
}

/// How a tensor is stored: its type, and the shape of its scales if it has any.
fn stored_as(shape: &[usize], precision: Precision) -> (Dtype, Option<Vec<usize>>) {
    match (precision, shape) {
        (Precision::Q8, &[rows, cols]) => {
            (Dtype::I8, Some(vec![rows, cols.div_ceil(QUANTIZED_BLOCK)]))
        }
        (Precision::F16, _) => (Dtype::F16, None),
        (Precision::F32 | Precision::Q8, _) => (Dtype::F32, None),
    }
}

/// Where each tensor's values, and its scales, start behind the header; and the header with its length before it.
/// Wide types come first, so that all are aligned.
fn layout(
    tensors: &[(String, Vec<usize>)],
    precision: Precision,
) -> Result<(Vec<Vec<usize>>, Vec<u8>), String> {
    let mut stored = Vec::new();
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let (dtype, scales) = stored_as(shape, precision);
        stored.push((dtype, name.clone(), shape.clone(), index));
        if let Some(shape) = scales {
            stored.push((Dtype::F16, scales_of(name), shape, index));
        }
    }
    stored.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    if stored.windows(2).any(|pair| pair[0].1 == pair[1].1) {
        return Err("two tensors have one name".to_owned());
    }
    let mut places = vec![Vec::new(); tensors.len()];
    let mut infos = Vec::with_capacity(stored.len());
    let mut start = 0_usize;
    for (dtype, name, shape, index) in stored {
        let bytes = shape
            .iter()
            .try_fold(dtype.bitsize() / 8, |product, size| {
                product.checked_mul(*size)
            })
            .and_then(|bytes| start.checked_add(bytes));
        let end = bytes.ok_or_else(|| format!("`{name}` of shape {shape:?} is too large"))?;
        // The scales of a quantized tensor are f16 and so stand before its values; they are written after them.
        if dtype == Dtype::I8 {
            places[index].insert(0, start);
        } else {
            places[index].push(start);
        }
        let data_offsets = (start, end);
        infos.push((
            name,
            TensorInfo {
                dtype,
                shape,
                data_offsets,
            },
        ));
        start = end;
    }
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let metadata = Metadata::new(Some(format), infos).map_err(|error| error.to_string())?;
    let mut json = serde_json::to_vec(&metadata).map_err(|error| error.to_string())?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok((places, header))
}

/// A tensor's bytes, and those of its scales if it has any.
fn encode(values: &[f32], shape: &[usize], precision: Precision) -> Result<Vec<Vec<u8>>, String> {
    match (precision, shape) {
        (Precision::Q8, &[_, cols]) => {
            if let Some(value) = values
                .iter()
                .find(|v| v.is_nan() || v.abs() > MAX_QUANTIZED)
            {
                return Err(format!("holds {value}, which q8 cannot; use f32"));
            }
            let (quantized, scales) = quantize(values, cols);
            Ok(vec![quantized, scales])
        }
        (Precision::F16, _) => {
            let too_large = |v: &&f32| v.is_finite() && f16::from_f32(**v).is_infinite();
            if let Some(value) = values.iter().find(too_large) {
                return Err(format!("holds {value}, which f16 cannot; use f32"));
            }
            let bytes = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
            Ok(vec![bytes.collect()])
        }
        (Precision::F32 | Precision::Q8, _) => {
            Ok(vec![values.iter().flat_map(|v| v.to_le_bytes()).collect()])
        }
    }
}

/// Largest value whose scale f16 can hold.
const MAX_QUANTIZED: f32 = 65_504.0 * 127.0;

/// Rounds each block of a row to int8 by a scale of its own; values, and scales as little-endian f16.
fn quantize(values: &[f32], cols: usize) -> (Vec<u8>, Vec<u8>) {
    let mut quantized = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(2 * values.len().div_ceil(QUANTIZED_BLOCK));
    for row in values.chunks(cols.max(1)) {
        for block in row.chunks(QUANTIZED_BLOCK) {
            let mut rounded = [0_i8; QUANTIZED_BLOCK];
            let scale = quantize_block(block, &mut rounded);
            let rounded = &rounded[..block.len()];
            quantized.extend(rounded.iter().map(|value| value.cast_unsigned()));
            scales.extend(scale.to_le_bytes());
        }
    }
    (quantized, scales)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Weights;

    #[test]
    fn writes_what_it_reads() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("model.safetensors");
        let tensors = vec![("a".to_owned(), vec![2, 2], vec![1.0, -2.5, 0.0, 65504.0])];
        for precision in [Precision::F32, Precision::F16] {
            save_tensors(&path, &tensors, precision).expect("writable");
            let weights = Weights::open(&path).expect("whole");
            let bytes = tensors_to_bytes(&path, &tensors, precision).expect("encodable");
            assert_eq!(std::fs::read(&path).expect("readable"), bytes);
            assert_eq!(weights.to_f32("a").expect("there"), tensors[0].2);
            assert_eq!(weights.shape("a").expect("there"), [2, 2]);
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn values_that_do_not_fit_are_named_and_nothing_is_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("model.safetensors");
        let save = |value: f32, shape: Vec<usize>, precision| {
            let tensors = [("m.weight".to_owned(), shape, vec![value, 1.0])];
            let error = save_tensors(&path, &tensors, precision).expect_err("refused");
            assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);
            error.to_string()
        };
        let error = save(70_000.0, vec![2], Precision::F16);
        assert!(error.contains("`m.weight` holds 70000"), "{error}");
        let error = save(f32::NAN, vec![1, 2], Precision::Q8);
        assert!(error.contains("`m.weight` holds NaN"), "{error}");
        let error = save(1.0, vec![3], Precision::F32);
        assert!(error.contains("2 values"), "{error}");
    }

    #[test]
    fn quantized_values_are_within_half_a_step() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("model.safetensors");
        // 40 columns: a whole block and a short one; the last row is zero.
        let wave = |i: usize| {
            if i < 80 {
                (i as f32 * 0.7).sin() * (i as f32 + 1.0)
            } else {
                0.0
            }
        };
        let matrix: Vec<f32> = (0..120).map(wave).collect();
        let tensors = vec![
            ("m.weight".to_owned(), vec![3, 40], matrix.clone()),
            ("m.bias".to_owned(), vec![3], vec![0.1, 0.2, 0.3]),
        ];
        save_tensors(&path, &tensors, Precision::Q8).expect("writable");
        let bytes = tensors_to_bytes(&path, &tensors, Precision::Q8).expect("encodable");
        assert_eq!(std::fs::read(&path).expect("readable"), bytes);
        let weights = Weights::open(&path).expect("whole");
        assert_eq!(weights.to_f32("m.bias").expect("there"), tensors[1].2);
        assert_eq!(weights.shape("m.weight.scales").expect("there"), [3, 2]);
        let read = weights.to_f32("m.weight").expect("there");
        for (row, read) in matrix.chunks(40).zip(read.chunks(40)) {
            for (block, read) in row.chunks(32).zip(read.chunks(32)) {
                let largest = block
                    .iter()
                    .fold(0.0_f32, |max, value| max.max(value.abs()));
                for (value, read) in block.iter().zip(read) {
                    assert!(
                        (value - read).abs() <= largest / 127.0 * 0.51,
                        "{value} {read}"
                    );
                }
            }
        }
    }
}
