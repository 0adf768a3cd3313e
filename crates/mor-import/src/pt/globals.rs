//! The Python functions and classes that state dicts name.

use std::fmt;

use safetensors::Dtype;

/// One of the few that are known; none is ever called as such.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    /// `collections.OrderedDict`
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`: a view of a storage.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: a tensor that is trained.
    RebuildParameter,
    /// `torch.FloatStorage` and its like: the type of a storage's numbers.
    Storage(Dtype),
}

const KNOWN: [(&str, &str, Global); 11] = [
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    (
        "torch._utils",
        "_rebuild_parameter",
        Global::RebuildParameter,
    ),
    ("torch", "FloatStorage", Global::Storage(Dtype::F32)),
    ("torch", "HalfStorage", Global::Storage(Dtype::F16)),
    ("torch", "BFloat16Storage", Global::Storage(Dtype::BF16)),
    ("torch", "DoubleStorage", Global::Storage(Dtype::F64)),
    ("torch", "LongStorage", Global::Storage(Dtype::I64)),
    ("torch", "IntStorage", Global::Storage(Dtype::I32)),
    ("torch", "ByteStorage", Global::Storage(Dtype::U8)),
    ("torch", "BoolStorage", Global::Storage(Dtype::BOOL)),
];

impl Global {
    /// The known one of this name.
    pub(super) fn named(module: &str, name: &str) -> Result<Self, String> {
        let known = KNOWN
            .iter()
            .find(|known| (known.0, known.1) == (module, name));
        known.map(|known| known.2).ok_or_else(|| {
            let full: String = format!("{module}.{name}").chars().take(200).collect();
            // A name comes from the file and could hold anything.
            let full = full.escape_debug();
            format!(
                "names `{full}`, which is no part of a state dict and is not run; save \
                 `model.state_dict()` alone, with torch.save"
            )
        })
    }
}

impl fmt::Display for Global {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KNOWN.iter().find(|known| known.2 == *self) {
            Some((module, name, _)) => write!(f, "{module}.{name}"),
            None => f.write_str("?"),
        }
    }
}
