//! Weight matrices in panels of 16 output rows.
//!
//! Inside a panel the 16 rows are interleaved, `[column][row in panel]`: a matrix-vector product then
//! reads its weights as one forward stream, multiplies whole vectors by one broadcast input, and
//! needs no horizontal sums. The last panel is filled up with zeros.

use half::f16;

use super::simd::LANES;

/// 16 f32, aligned to a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

/// 16 f16, aligned to half a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct HalfLanes(pub(crate) [f16; LANES]);

/// Packed values, `[panel][column][lane]`.
pub(crate) enum Values {
    F32(Vec<Lanes>),
    F16(Vec<HalfLanes>),
}

/// A linear map `[rows, cols]`.
pub(crate) struct Matrix {
    rows: usize,
    cols: usize,
    values: Values,
}

/// How a matrix is kept in memory. Either way it is computed with in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    F32,
    /// Only for weights that are f16 already: nothing is rounded here.
    F16,
}

/// Rounds up to whole panels.
pub(crate) fn padded(len: usize) -> usize {
    len.next_multiple_of(LANES)
}

impl Matrix {
    /// Packs the row-major `[rows, cols]` matrices of `parts`, one below the other.
    pub(crate) fn pack(parts: &[&[f32]], cols: usize, packing: Packing) -> Self {
        let rows = parts.iter().map(|part| part.len() / cols).sum::<usize>();
        let vectors = rows.div_ceil(LANES) * cols;
        let source: Vec<&[f32]> = parts
            .iter()
            .flat_map(|part| part.chunks_exact(cols))
            .collect();
        let value = |panel: usize, col: usize, lane: usize| {
            source.get(panel * LANES + lane).map_or(0.0, |row| row[col])
        };
        let values = match packing {
            Packing::F32 => {
                let mut packed = Vec::with_capacity(vectors);
                for panel in 0..vectors / cols.max(1) {
                    for col in 0..cols {
                        packed.push(Lanes(std::array::from_fn(|lane| value(panel, col, lane))));
                    }
                }
                Values::F32(packed)
            }
            Packing::F16 => {
                let mut packed = Vec::with_capacity(vectors);
                for panel in 0..vectors / cols.max(1) {
                    for col in 0..cols {
                        let lane = |lane| f16::from_f32(value(panel, col, lane));
                        packed.push(HalfLanes(std::array::from_fn(lane)));
                    }
                }
                Values::F16(packed)
            }
        };
        Self { rows, cols, values }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// Bytes that one product reads.
    pub(crate) fn bytes(&self) -> usize {
        match &self.values {
            Values::F32(values) => std::mem::size_of_val(values.as_slice()),
            Values::F16(values) => std::mem::size_of_val(values.as_slice()),
        }
    }

    /// Copies one row out; `out` holds `cols` values.
    pub(crate) fn copy_row(&self, row: usize, out: &mut [f32]) {
        let (panel, lane) = (row / LANES, row % LANES);
        let vectors = panel * self.cols..(panel + 1) * self.cols;
        match &self.values {
            Values::F32(values) => {
                for (out, lanes) in out.iter_mut().zip(&values[vectors]) {
                    *out = lanes.0[lane];
                }
            }
            Values::F16(values) => {
                for (out, lanes) in out.iter_mut().zip(&values[vectors]) {
                    *out = lanes.0[lane].to_f32();
                }
            }
        }
    }
}
