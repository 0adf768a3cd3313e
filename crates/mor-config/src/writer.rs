//! Writing model folders: each file is written beside its place, synced, and renamed.

use std::io::Write;
use std::path::Path;

use half::f16;
use safetensors::{Dtype, tensor::TensorView};

use crate::ConfigError;
use crate::weights::{QUANTIZED_BLOCK, quantize_block, scales_of};

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

/// Writes a file so that a crash leaves either the old one or the new one, never a part.
///
/// # Errors
/// [`ConfigError::Io`]; the old file is untouched then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), ConfigError> {
    let io = |source| ConfigError::Io {
        path: path.to_owned(),
        source,
    };
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(dir).map_err(io)?;
    let mut file = tempfile::Builder::new()
        .prefix(".partial-")
        .tempfile_in(dir)
        .map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    set_readable(file.as_file()).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    sync_dir(dir).map_err(io)
}

/// Temporary files are private to their owner; a model folder is meant to be read by others.
#[cfg(unix)]
fn set_readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_readable(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

/// Makes the rename itself durable.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Writes named f32 tensors as safetensors, atomically.
///
/// # Errors
/// [`ConfigError::Io`], or [`ConfigError::Weights`] when a shape does not fit its values.
pub fn save_tensors(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
    precision: Precision,
) -> Result<(), ConfigError> {
    let fail = |error: &dyn std::fmt::Display| ConfigError::Weights {
        path: path.to_owned(),
        problem: format!("cannot be written: {error}"),
    };
    let mut encoded: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::with_capacity(tensors.len());
    for (name, shape, values) in tensors {
        match (precision, shape.as_slice()) {
            (Precision::Q8, &[rows, cols]) if rows * cols == values.len() => {
                let (quantized, scales) = quantize(values, cols);
                encoded.push((name.clone(), Dtype::I8, shape.clone(), quantized));
                let shape = vec![rows, cols.div_ceil(QUANTIZED_BLOCK)];
                encoded.push((scales_of(name), Dtype::F16, shape, scales));
            }
            (Precision::F16, _) => {
                let bytes = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
                encoded.push((name.clone(), Dtype::F16, shape.clone(), bytes.collect()));
            }
            (Precision::F32 | Precision::Q8, _) => {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes());
                encoded.push((name.clone(), Dtype::F32, shape.clone(), bytes.collect()));
            }
        }
    }
    let mut views = Vec::with_capacity(encoded.len());
    for (name, dtype, shape, bytes) in &encoded {
        let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|error| fail(&error))?;
        views.push((name.as_str(), view));
    }
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(views, Some(format)).map_err(|error| fail(&error))?;
    write_atomic(path, &bytes)
}

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
            assert_eq!(weights.to_f32("a").expect("there"), tensors[0].2);
            assert_eq!(weights.shape("a").expect("there"), [2, 2]);
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
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
