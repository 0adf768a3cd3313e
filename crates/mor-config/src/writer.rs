//! Writing model folders: each file is written beside its place, synced, and renamed.

use std::io::Write;
use std::path::Path;

use half::f16;
use safetensors::{Dtype, tensor::TensorView};

use crate::ConfigError;

/// Element type of stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats, as trained.
    #[default]
    F32,
    /// 16-bit floats: half the size.
    F16,
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
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::F16 => Dtype::F16,
    };
    let encoded: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| encode(values, precision))
        .collect();
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, shape, _), bytes) in tensors.iter().zip(&encoded) {
        let view = TensorView::new(dtype, shape.clone(), bytes).map_err(|error| fail(&error))?;
        views.push((name.as_str(), view));
    }
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(views, Some(format)).map_err(|error| fail(&error))?;
    write_atomic(path, &bytes)
}

fn encode(values: &[f32], precision: Precision) -> Vec<u8> {
    match precision {
        Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Precision::F16 => values
            .iter()
            .flat_map(|v| f16::from_f32(*v).to_le_bytes())
            .collect(),
    }
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
}
