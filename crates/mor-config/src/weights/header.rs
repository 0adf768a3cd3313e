//! What is checked of a safetensors header before the `safetensors` crate reads it: sums of its offsets overflow on some
//! damaged files, and its tables may grow well beyond the file.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

/// Bytes that a header may be longer than the data it describes.
const HEADER_ALLOWANCE: usize = 64 << 10;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// One entry of the header, as far as it is checked here.
#[derive(Deserialize)]
struct Entry {
    #[serde(default, rename = "shape")]
    _shape: Shape,
    data_offsets: Option<(usize, usize)>,
}

/// A list of at most [`MAX_DIMENSIONS`], not kept.
#[derive(Default)]
struct Shape;

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Count)
    }
}

struct Count;

impl<'de> Visitor<'de> for Count {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_DIMENSIONS} sizes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sizes: A) -> Result<Shape, A::Error> {
        let mut count = 0;
        while sizes.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
            if count > MAX_DIMENSIONS {
                return Err(serde::de::Error::invalid_length(count, &self));
            }
        }
        Ok(Shape)
    }
}

/// Checks that the header is no longer than the data warrant, and that no tensor ends behind the file.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("no header")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (header, data) = rest
        .split_at_checked(length)
        .ok_or_else(|| format!("a header of {length} bytes"))?;
    if header.len() > data.len().saturating_add(HEADER_ALLOWANCE) {
        return Err(format!(
            "a header of {length} bytes before {} bytes of data",
            data.len()
        ));
    }
    let entries: HashMap<String, Entry> =
        serde_json::from_slice(header).map_err(|error| format!("its header: {error}"))?;
    for (name, entry) in entries {
        if let Some((start, end)) = entry.data_offsets
            && (start > end || end > data.len())
        {
            return Err(format!(
                "tensor `{name}` stands at {start} to {end} of {} bytes of data",
                data.len()
            ));
        }
    }
    Ok(())
}
