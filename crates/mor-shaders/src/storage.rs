//! How weights lie in a buffer.

use crate::shader::Builder;

/// How a matrix is stored. Columns are padded with zeros to a multiple of 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, widened where they are read.
    F16,
    /// 8-bit integers, then f16 scales for every 32 columns of a row.
    Q8,
}

impl Storage {
    /// Bytes of `rows` rows of `columns` columns, a multiple of 32.
    pub fn bytes(self, rows: usize, columns: usize) -> u64 {
        let values = (rows as u64).saturating_mul(columns as u64);
        match self {
            Self::F32 => values.saturating_mul(4),
            Self::F16 => values.saturating_mul(2),
            Self::Q8 => values.saturating_add((values / 16).next_multiple_of(4)),
        }
    }

    /// Adds the function that reads weights.
    pub(crate) fn include(self, builder: Builder, rows: u32, columns: u32) -> Builder {
        let builder = builder.constant("EIGHTS", columns / 8);
        match self {
            Self::F32 => builder.include(include_str!("../../../shaders/include/weights_f32.wgsl")),
            Self::F16 => builder.include(include_str!("../../../shaders/include/weights_f16.wgsl")),
            Self::Q8 => builder
                .constant("SCALES", rows * (columns / 4))
                .include(include_str!("../../../shaders/include/weights_q8.wgsl")),
        }
    }
}
