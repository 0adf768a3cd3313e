//! PyTorch checkpoints: a zip archive with a pickle that describes tensors and one entry for each storage.

mod globals;
mod pickle;
mod reader;
mod zip;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::Dtype;

use crate::ImportError;
use pickle::{Objects, Storage, Tensor, Value};

/// Keys under which training programs put the state dict, the most telling first.
const STATE_DICT_KEYS: [&str; 3] = ["model_state_dict", "state_dict", "model"];
/// How deep a state dict may be nested in others.
const MAX_NESTING: usize = 3;

/// The state dict of a PyTorch checkpoint (`torch.save`, PyTorch 1.6 and later).
///
/// Only descriptions are read at first; a tensor's values are read when they are asked for. Nothing in the file is
/// executed.
#[derive(Debug)]
pub struct PtFile {
    path: PathBuf,
    bytes: Bytes,
    /// Sorted by name.
    entries: Vec<zip::Entry>,
    /// What stands before `data/` in the names of entries.
    root: String,
    pickle: Vec<u8>,
    objects: Objects,
    /// The index of each tensor by its name.
    tensors: BTreeMap<String, usize>,
}

#[derive(Debug)]
enum Bytes {
    Owned(Vec<u8>),
    Mapped(Mmap),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

impl PtFile {
    /// Maps a file into memory and reads what it describes.
    ///
    /// # Errors
    /// [`ImportError::Io`], or [`ImportError::Checkpoint`] when it is damaged, in the format of PyTorch before 1.6, or
    /// holds more than data.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let file = File::open(path).map_err(|error| ImportError::io(path, error))?;
        // SAFETY: the map is read-only and private. Another process truncating the file while it is mapped would
        // fault, as it would any program that maps its weights.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| ImportError::io(path, error))?;
        Self::new(Bytes::Mapped(map), path)
    }

    /// Takes a whole file's bytes. `origin` is what errors call it.
    ///
    /// # Errors
    /// [`ImportError::Checkpoint`], as for [`Self::open`].
    pub fn from_bytes(bytes: Vec<u8>, origin: &Path) -> Result<Self, ImportError> {
        Self::new(Bytes::Owned(bytes), origin)
    }

    fn new(bytes: Bytes, path: &Path) -> Result<Self, ImportError> {
        let fail = |problem: String| ImportError::checkpoint(path, problem);
        let archive = bytes.get();
        if let Some(problem) = not_a_zip(archive) {
            return Err(fail(problem));
        }
        let entries = zip::entries(archive).map_err(fail)?;
        let (root, pickle) = description(archive, &entries).map_err(fail)?;
        let (value, objects) = pickle::run(&pickle, archive.len()).map_err(fail)?;
        let tensors = state_dict(value, &objects, &pickle).map_err(fail)?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
            entries,
            root,
            pickle,
            objects,
            tensors,
        })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let tensor = self.objects.tensors.get(*self.tensors.get(name)?)?;
        Some(&tensor.shape)
    }

    /// A tensor's values as f32, row by row, whatever its strides.
    ///
    /// # Errors
    /// [`ImportError::Checkpoint`] when the tensor is missing, reaches outside its storage, or holds no floats.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>, ImportError> {
        let (tensor, storage, bytes) = self.tensor(name)?;
        let bytes = bytes.as_ref();
        match storage.dtype {
            Dtype::F32 => Ok(gather(tensor, bytes, f32::from_le_bytes)),
            Dtype::F16 => Ok(gather(tensor, bytes, |b| f16::from_le_bytes(b).to_f32())),
            Dtype::BF16 => Ok(gather(tensor, bytes, |b| bf16::from_le_bytes(b).to_f32())),
            Dtype::F64 => Ok(gather(tensor, bytes, |b| f64::from_le_bytes(b) as f32)),
            other => Err(self.error(format!("tensor `{name}` is {other:?}; expected floats"))),
        }
    }

    /// A tensor's integers.
    ///
    /// # Errors
    /// As [`Self::to_f32`], for integers.
    pub fn to_i64(&self, name: &str) -> Result<Vec<i64>, ImportError> {
        let (tensor, storage, bytes) = self.tensor(name)?;
        let bytes = bytes.as_ref();
        match storage.dtype {
            Dtype::I64 => Ok(gather(tensor, bytes, i64::from_le_bytes)),
            Dtype::I32 => Ok(gather(tensor, bytes, |b| i64::from(i32::from_le_bytes(b)))),
            other => Err(self.error(format!("tensor `{name}` is {other:?}; expected integers"))),
        }
    }

    /// A tensor with its storage and the storage's bytes, all checked against one another.
    fn tensor(&self, name: &str) -> Result<(&Tensor, &Storage, Cow<'_, [u8]>), ImportError> {
        let tensor = self.tensors.get(name).map(|at| &self.objects.tensors[*at]);
        let tensor = tensor.ok_or_else(|| self.error(format!("has no tensor `{name}`")))?;
        let storage = &self.objects.storages[tensor.storage];
        let fail = |problem: String| self.error(format!("tensor `{name}` {problem}"));
        check_view(tensor, storage).map_err(|problem| fail(problem.to_owned()))?;
        let key = self.pickle.get(storage.key.clone()).unwrap_or_default();
        let entry_name = [self.root.as_bytes(), b"data/", key].concat();
        let entry = find(&self.entries, self.bytes.get(), &entry_name).ok_or_else(|| {
            let entry = String::from_utf8_lossy(&entry_name).into_owned();
            fail(format!("needs the entry `{entry}`, which is missing"))
        })?;
        let bytes = storage.len.checked_mul(storage.dtype.bitsize() / 8);
        if bytes != Some(entry.size()) {
            return Err(fail(format!(
                "needs {} numbers of {:?}, but its entry has {} bytes",
                storage.len,
                storage.dtype,
                entry.size()
            )));
        }
        let contents = entry.read(self.bytes.get()).map_err(fail)?;
        Ok((tensor, storage, contents))
    }

    fn error(&self, problem: String) -> ImportError {
        ImportError::checkpoint(&self.path, problem)
    }
}

/// Why the file is no zip archive, if it is none.
fn not_a_zip(bytes: &[u8]) -> Option<String> {
    const ZIP: &[u8] = b"PK";
    // A pickle of PyTorch's magic number, which opens the format of before 1.6.
    const LEGACY: &[u8] = &[
        0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
    ];
    if bytes.starts_with(ZIP) {
        return None;
    }
    let is_legacy = bytes.len() > 2 && bytes[0] == 0x80 && bytes[2..].starts_with(LEGACY);
    Some(if is_legacy {
        "is a checkpoint of PyTorch before 1.6; save it again with a newer one: \
         torch.save(torch.load(FILE, map_location=\"cpu\"), FILE)"
            .to_owned()
    } else {
        "is not a PyTorch checkpoint: it does not begin like a zip archive".to_owned()
    })
}

/// The archive's root folder (with a slash) and the pickle in it.
fn description(archive: &[u8], entries: &[zip::Entry]) -> Result<(String, Vec<u8>), String> {
    const PICKLE: &[u8] = b"data.pkl";
    let is_pickle = |name: &[u8]| {
        let root = name.strip_suffix(PICKLE);
        root.is_some_and(|root| root.ends_with(b"/") && !root[..root.len() - 1].contains(&b'/'))
    };
    let entry = entries.iter().find(|entry| is_pickle(entry.name(archive)));
    let entry = entry.ok_or("is a zip archive without data.pkl, so not a PyTorch checkpoint")?;
    let name = entry.name(archive);
    let root = &name[..name.len() - PICKLE.len()];
    let at = |part: &str| find(entries, archive, &[root, part.as_bytes()].concat());
    if at("constants.pkl").is_some() {
        return Err(
            "is a TorchScript program; save its `state_dict()` with torch.save instead".to_owned(),
        );
    }
    if let Some(order) = at("byteorder")
        && order.read(archive)?.as_ref() != b"little"
    {
        return Err("was saved on a big-endian machine; save it again on another".to_owned());
    }
    let root = String::from_utf8(root.to_vec()).map_err(|_| "has a root that is not UTF-8")?;
    Ok((root, entry.read(archive)?.into_owned()))
}

/// The entry of this name.
fn find<'a>(entries: &'a [zip::Entry], archive: &[u8], name: &[u8]) -> Option<&'a zip::Entry> {
    let at = entries.binary_search_by(|entry| entry.name(archive).cmp(name));
    entries.get(at.ok()?)
}

/// The tensors of the state dict that `value` is or holds; of two of one name the later.
fn state_dict(
    mut value: Value,
    objects: &Objects,
    pickle: &[u8],
) -> Result<BTreeMap<String, usize>, String> {
    let text = |value: Value| match value {
        Value::Text(start, end) => std::str::from_utf8(&pickle[start as usize..end as usize]).ok(),
        _ => None,
    };
    for _ in 0..MAX_NESTING {
        let entries = objects.dict(value).unwrap_or_default();
        let nested = STATE_DICT_KEYS.iter().find_map(|key| {
            let of_key = |entry: &&(Value, Value)| {
                text(entry.0) == Some(key) && objects.dict(entry.1).is_some()
            };
            entries.iter().rfind(of_key)
        });
        match nested {
            Some(entry) => value = entry.1,
            None => break,
        }
    }
    let entries = objects.dict(value).unwrap_or_default();
    let tensors: BTreeMap<String, usize> = entries
        .iter()
        .filter_map(|entry| match entry {
            (name, Value::Tensor(index)) => Some((text(*name)?.to_owned(), *index as usize)),
            _ => None,
        })
        .collect();
    if tensors.is_empty() {
        let keys: Vec<_> = entries
            .iter()
            .filter_map(|(key, _)| text(*key))
            .take(8)
            .collect();
        return Err(format!(
            "holds no state dict: found {} ({}); save `model.state_dict()` with torch.save",
            if objects.dict(value).is_some() {
                "a dictionary"
            } else {
                "no dictionary"
            },
            keys.join(", ").escape_debug().take(200).collect::<String>()
        ));
    }
    Ok(tensors)
}

/// Checks that a tensor stays inside its storage, and is no larger than it, as expanded views are.
fn check_view(tensor: &Tensor, storage: &Storage) -> Result<(), &'static str> {
    let outside = "reaches outside its storage";
    let count = tensor
        .shape
        .iter()
        .try_fold(1_usize, |product, size| product.checked_mul(*size));
    let count = count.ok_or(outside)?;
    if count > storage.len {
        return Err("is larger than its storage; save it after `.contiguous()`");
    }
    if count == 0 {
        return Ok(());
    }
    let mut last = tensor.offset;
    for (size, stride) in tensor.shape.iter().zip(&tensor.strides) {
        let reach = (size - 1).checked_mul(*stride);
        last = reach
            .and_then(|reach| last.checked_add(reach))
            .ok_or(outside)?;
    }
    if last < storage.len {
        Ok(())
    } else {
        Err(outside)
    }
}

/// The numbers of a view that [`check_view`] has passed, the last dimension fastest.
fn gather<T, const N: usize>(tensor: &Tensor, bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (numbers, _) = bytes.as_chunks::<N>();
    let count: usize = tensor.shape.iter().product();
    let mut values = Vec::with_capacity(count);
    let mut index = vec![0_usize; tensor.shape.len()];
    let mut at = tensor.offset;
    while values.len() < count {
        values.push(read(numbers[at]));
        // The next index: carries run from the last dimension to the first.
        for (dimension, (size, stride)) in
            tensor.shape.iter().zip(&tensor.strides).enumerate().rev()
        {
            index[dimension] += 1;
            at += stride;
            if index[dimension] < *size {
                break;
            }
            index[dimension] = 0;
            at -= stride * size;
        }
    }
    values
}
