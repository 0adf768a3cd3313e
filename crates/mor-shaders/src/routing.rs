//! Which rows take a step, and moving them: gather, run, scatter.

use crate::shader::Builder;
use crate::{Shader, Variant, element};

/// Columns of a row that a workgroup takes in [`grid`].
pub(crate) const COLUMNS: u32 = 1024;
/// The most workgroups of a dimension that every adapter takes.
const MOST: u32 = 65_535;

/// The rows whose depth is above a step, in increasing order. See `shaders/select.wgsl`. The grid is one workgroup.
///
/// Bindings: `depths` of u32; the results `list: [rows]` of u32, of which the first `count` are set, and `count` of u32;
/// `params` of u32: rows, first, step. Row `i` is the one with depth `depths[first + i]`, and `i` is what is listed.
pub fn select(variant: Variant) -> Shader {
    let (variant, size, file) = match variant {
        Variant::Portable => (
            variant,
            1,
            include_str!("../../../shaders/select.portable.wgsl"),
        ),
        // Its prefix sum needs no sum over subgroups.
        Variant::Workgroup | Variant::Subgroup => (
            Variant::Workgroup,
            256,
            include_str!("../../../shaders/select.wgsl"),
        ),
    };
    Builder::new("select", variant, size).build(file)
}

/// `y[i] = x[list[i]]` for each `i` below `count`. See `shaders/gather.wgsl`.
///
/// Bindings: `x`, `list` and `count` of u32, `y`; `count` is that of [`select`] or any buffer that starts with the number.
/// Grid: [`Self::workgroups`], or by indirect dispatch as many rows and [`Self::slices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gather {
    /// Elements of a row.
    pub stride: u32,
    /// Whether they are f16.
    pub half: bool,
}

/// `y[list[i]] = x[i]` for each `i` below `count`, leaving other rows as they are. No row may be listed twice. See
/// `shaders/scatter.wgsl`.
///
/// Bindings: `x`, `list` and `count` of u32, `y`. Grid as of [`Gather`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scatter {
    /// Elements of a row.
    pub stride: u32,
    /// Whether they are f16.
    pub half: bool,
}

impl Gather {
    /// The shader, whose backward pass is [`Scatter`] into zeros.
    pub fn shader(&self) -> Shader {
        let file = include_str!("../../../shaders/gather.wgsl");
        moving("gather", self.stride, self.half, false, file)
    }

    /// The same for a number of rows that the host knows: `count` is the last binding, as `params` are of others.
    pub fn of_known_rows(&self) -> Shader {
        let file = include_str!("../../../shaders/gather.wgsl");
        moving("gather", self.stride, self.half, true, file)
    }

    /// The grid over `rows` listed rows.
    pub fn workgroups(&self, rows: u32) -> [u32; 3] {
        grid(self.stride, rows)
    }

    /// Workgroups of a row.
    pub fn slices(&self) -> u32 {
        self.stride.div_ceil(COLUMNS)
    }
}

impl Scatter {
    /// The shader, whose backward pass is [`Gather`] for `x` and [`Self::clear`] for what `y` held.
    pub fn shader(&self) -> Shader {
        let file = include_str!("../../../shaders/scatter.wgsl");
        moving("scatter", self.stride, self.half, false, file)
    }

    /// The same for a number of rows that the host knows, as [`Gather::of_known_rows`].
    pub fn of_known_rows(&self) -> Shader {
        let file = include_str!("../../../shaders/scatter.wgsl");
        moving("scatter", self.stride, self.half, true, file)
    }

    /// `y[list[i]] = 0`. Bindings: `list`, `y`, `count`. Grid: [`Self::workgroups`].
    pub fn clear(&self) -> Shader {
        let file = include_str!("../../../shaders/scatter_clear.wgsl");
        moving("scatter clear", self.stride, self.half, true, file)
    }

    /// The grid over `rows` listed rows.
    pub fn workgroups(&self, rows: u32) -> [u32; 3] {
        grid(self.stride, rows)
    }
}

/// Rows, slices of [`COLUMNS`] columns, and more rows.
pub(crate) fn grid(stride: u32, rows: u32) -> [u32; 3] {
    [
        rows.min(MOST),
        stride.div_ceil(COLUMNS),
        rows.div_ceil(MOST),
    ]
}

/// Copies need no barrier, so every variant is the portable one.
fn moving(name: &str, stride: u32, half: bool, count_last: bool, file: &str) -> Shader {
    let builder = Builder::new(name, Variant::Portable, 64)
        .constant("STRIDE", stride)
        .constant("COLUMNS", COLUMNS)
        .flag("COUNT_LAST", count_last);
    element::build(builder, file, half)
}
