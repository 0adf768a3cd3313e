//! The named tensors of a checkpoint, whatever its format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mor_config::{Weights, largest_magnitude, not_finite};

use crate::{ImportError, PtFile, part};

/// What programs put before every name: distributed training, compilation, and wrappers around the model.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// The tensors of a `.safetensors` or `.pt` file under the model's own names.
///
/// ```
/// use std::path::Path;
///
/// use mor_config::{ModelConfig, Precision};
/// use mor_import::{Checkpoint, TechnicalOptions};
///
/// let checkpoint = Checkpoint::open(Path::new("../../tests/goldens/m1_learned.weights.safetensors"))?;
/// let config = mor_import::technical(&checkpoint, &TechnicalOptions { heads: 4, ..Default::default() })?;
/// assert_eq!((config.vocab_size, config.hidden_size, config.num_hidden_layers), (97, 48, 3));
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// mor_import::save_model(&checkpoint, &config, folder, Precision::F16)?;
/// assert_eq!(ModelConfig::from_dir(folder)?, config);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    source: Source,
    /// Names in the file by the model's names.
    names: BTreeMap<String, String>,
}

/// What a file is, by its name.
enum Format {
    Safetensors,
    Pt,
}

impl Format {
    fn of(path: &Path) -> Result<Self, ImportError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("pt" | "pth" | "bin" | "ckpt") => Ok(Self::Pt),
            _ => Err(ImportError::checkpoint(
                path,
                "is neither .safetensors nor .pt (.pth, .bin, .ckpt); give a file of one of these formats",
            )),
        }
    }
}

#[derive(Debug)]
enum Source {
    Safetensors(Weights),
    Pt(Box<PtFile>),
}

impl Checkpoint {
    /// Opens a file. Its name decides on the format: `.safetensors`, or `.pt`, `.pth`, `.bin` or `.ckpt` for PyTorch's.
    /// Prefixes that all names have in common (`module.`, `model.`, `_orig_mod.`) are taken off.
    ///
    /// # Errors
    /// [`ImportError`] when the file cannot be read, is of neither format, or is damaged.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        if let Some(problem) = part::not_whole(path) {
            return Err(ImportError::checkpoint(path, problem));
        }
        // Before its name is judged.
        std::fs::metadata(path).map_err(|error| ImportError::io(path, error))?;
        let source = match Format::of(path)? {
            Format::Safetensors => Source::Safetensors(Weights::open(path)?),
            Format::Pt => Source::Pt(Box::new(PtFile::open(path)?)),
        };
        Ok(Self::new(path, source))
    }

    /// Takes a whole file's bytes; `origin` is what errors call it, and decides on the format.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(bytes: Vec<u8>, origin: &Path) -> Result<Self, ImportError> {
        let source = match Format::of(origin)? {
            Format::Safetensors => Source::Safetensors(Weights::from_bytes(bytes, origin)?),
            Format::Pt => Source::Pt(Box::new(PtFile::from_bytes(bytes, origin)?)),
        };
        Ok(Self::new(origin, source))
    }

    fn new(path: &Path, source: Source) -> Self {
        let found: Vec<String> = match &source {
            Source::Safetensors(weights) => weights.names(),
            Source::Pt(file) => file.names().map(str::to_owned).collect(),
        };
        Self {
            path: path.to_owned(),
            source,
            names: without_prefixes(found),
        }
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let stored = self.names.get(name)?;
        match &self.source {
            Source::Safetensors(weights) => weights.shape(stored).ok(),
            Source::Pt(file) => file.shape(stored),
        }
    }

    /// A tensor's values as f32.
    ///
    /// # Errors
    /// [`ImportError`] when the tensor is missing, holds no floats, or one that is not finite.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>, ImportError> {
        let stored = self.stored(name)?;
        let file = match &self.source {
            Source::Safetensors(weights) => return Ok(weights.to_f32(stored)?),
            Source::Pt(file) => file,
        };
        let values = file.to_f32(stored)?;
        match not_finite(stored, largest_magnitude(&values)) {
            Some(problem) => Err(ImportError::checkpoint(&self.path, problem)),
            None => Ok(values),
        }
    }

    /// A tensor's integers.
    ///
    /// # Errors
    /// [`ImportError`] when the tensor is missing or holds no integers.
    pub fn to_i64(&self, name: &str) -> Result<Vec<i64>, ImportError> {
        let stored = self.stored(name)?;
        match &self.source {
            Source::Safetensors(weights) => Ok(weights.to_i64(stored)?),
            Source::Pt(file) => file.to_i64(stored),
        }
    }

    fn stored(&self, name: &str) -> Result<&str, ImportError> {
        let stored = self.names.get(name).map(String::as_str);
        stored.ok_or_else(|| ImportError::checkpoint(&self.path, format!("has no tensor `{name}`")))
    }
}

/// Names in the file by what is left of them without the prefixes that all have in common.
fn without_prefixes(found: Vec<String>) -> BTreeMap<String, String> {
    let mut skip = 0;
    while let Some(prefix) = PREFIXES
        .iter()
        .find(|prefix| found.iter().all(|name| name[skip..].starts_with(**prefix)))
    {
        if found.is_empty() {
            break;
        }
        skip += prefix.len();
    }
    found
        .into_iter()
        .map(|name| (name[skip..].to_owned(), name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::without_prefixes;

    #[test]
    fn prefixes_go_only_where_all_names_have_them() {
        let strip = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            without_prefixes(names).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(
            strip(&["_orig_mod.module.a", "_orig_mod.module.b.c"]),
            ["a", "b.c"]
        );
        assert_eq!(strip(&["model.a", "b"]), ["b", "model.a"]);
        assert!(strip(&[]).is_empty());
    }
}
