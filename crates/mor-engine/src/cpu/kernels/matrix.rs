//! Weight matrices in panels of 16 output rows.
//!
//! Inside a panel the 16 rows are interleaved, `[column][row in panel]`: a matrix-vector product then
//! reads its weights as one forward stream, multiplies whole vectors by one broadcast input, and
//! needs no horizontal sums. The last panel is filled up with zeros. Int8 columns go in fours, see [`super::q8`].

use std::sync::OnceLock;

use half::f16;
use mor_config::QUANTIZED_BLOCK as BLOCK;

use super::buffer::Buffer;
use super::lanes::{HalfLanes, Lanes, Line, QUAD};
use super::q8::{self, QUADS};
use super::simd::LANES;
use crate::model::{Stored, Tensor};
use crate::{EngineError, Result};

/// Packed values.
pub(crate) enum Values {
    /// `[panel][column][lane]`
    F32(Buffer<Lanes>),
    /// `[panel][column][lane]`
    F16(Buffer<HalfLanes>),
    /// Each panel as [`q8::panel_lines`] says.
    Q8(Buffer<Line>),
}

/// A linear map `[rows, cols]`.
pub(crate) struct Matrix {
    rows: usize,
    cols: usize,
    values: Values,
}

/// How a matrix is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    F32,
    /// Widened to f32 by the kernels.
    F16,
    /// Int8 with scales; the kernels round inputs likewise.
    Q8,
}

impl Packing {
    /// The type of the packed values.
    fn stored(self) -> Stored {
        match self {
            Self::F32 => Stored::F32,
            Self::F16 => Stored::F16,
            Self::Q8 => Stored::Q8,
        }
    }
}

/// Rounds up to whole panels.
pub(crate) fn padded(len: usize) -> usize {
    len.next_multiple_of(LANES)
}

impl Matrix {
    /// Packs the row-major `[rows, cols]` matrices of `parts`, one below the other, and lets go of what a file
    /// holds of them.
    ///
    /// # Errors
    /// As [`Tensor::check`].
    pub(crate) fn pack(parts: &[Tensor<'_>], cols: usize, packing: Packing) -> Result<Self> {
        let source = Source::new(parts, cols, packing.stored());
        let panels = source.rows.div_ceil(LANES);
        let values = match packing {
            Packing::F32 => {
                let mut values = Buffer::<Lanes>::new(panels * cols);
                source.fill(&mut values, cols, |panel, out| {
                    source.strips(panel, 0.0, Tensor::read, |col, strip| {
                        for (i, out) in out[col..].iter_mut().take(BLOCK).enumerate() {
                            *out = Lanes(std::array::from_fn(|lane| strip[lane][i]));
                        }
                    });
                })?;
                Values::F32(values)
            }
            Packing::F16 => {
                let mut values = Buffer::<HalfLanes>::new(panels * cols);
                source.fill(&mut values, cols, |panel, out| {
                    source.strips(panel, f16::ZERO, Tensor::read_f16, |col, strip| {
                        for (i, out) in out[col..].iter_mut().take(BLOCK).enumerate() {
                            *out = HalfLanes(std::array::from_fn(|lane| strip[lane][i]));
                        }
                    });
                })?;
                Values::F16(values)
            }
            Packing::Q8 => {
                let lines = q8::panel_lines(cols);
                let mut values = Buffer::<Line>::new(panels * lines);
                source.fill(&mut values, lines, |panel, out| source.q8_panel(panel, out))?;
                Values::Q8(values)
            }
        };
        Ok(Self {
            rows: source.rows,
            cols,
            values,
        })
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
            Values::F32(values) => size_of_val::<[Lanes]>(values),
            Values::F16(values) => size_of_val::<[HalfLanes]>(values),
            Values::Q8(values) => size_of_val::<[Line]>(values),
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
            Values::Q8(values) => {
                let size = q8::panel_lines(self.cols);
                let (values, scales) =
                    values[panel * size..][..size].split_at(self.cols.div_ceil(BLOCK) * QUADS);
                for (col, out) in out.iter_mut().enumerate() {
                    let value = values[col / QUAD].0[lane * QUAD + col % QUAD].cast_signed();
                    let (line, at) = q8::scale_at(col / BLOCK, lane);
                    let scale = f16::from_ne_bytes([scales[line].0[at], scales[line].0[at + 1]]);
                    *out = f32::from(value) * scale.to_f32();
                }
            }
        }
    }
}

/// The rows of several tensors, one below the other.
struct Source<'a> {
    parts: &'a [Tensor<'a>],
    rows: usize,
    cols: usize,
    /// What they are packed as.
    kept: Stored,
}

impl<'a> Source<'a> {
    fn new(parts: &'a [Tensor<'a>], cols: usize, kept: Stored) -> Self {
        let rows = parts.iter().map(|part| part.len() / cols).sum();
        Self {
            parts,
            rows,
            cols,
            kept,
        }
    }

    /// Refuses a panel with a value that cannot be used.
    fn check(&self, panel: usize) -> Result<()> {
        let mut rows = (0..LANES).filter_map(|lane| self.find(panel * LANES + lane));
        rows.try_for_each(|(tensor, start)| tensor.check(start..start + self.cols, self.kept))
    }

    /// The tensor that a row is in, and where the row begins there.
    fn find(&self, mut row: usize) -> Option<(&Tensor<'a>, usize)> {
        for part in self.parts {
            let rows = part.len() / self.cols;
            if row < rows {
                return Some((part, row * self.cols));
            }
            row -= rows;
        }
        None
    }

    /// Reads a panel in strips of up to [`BLOCK`] columns, `[lane][column]`, which `emit` gets with their first column.
    fn strips<T: Copy>(
        &self,
        panel: usize,
        zero: T,
        read: impl Fn(&Tensor<'a>, usize, &mut [T]),
        mut emit: impl FnMut(usize, &[[T; BLOCK]; LANES]),
    ) {
        let rows: [_; LANES] = std::array::from_fn(|lane| self.find(panel * LANES + lane));
        let mut strip = [[zero; BLOCK]; LANES];
        for col in (0..self.cols).step_by(BLOCK) {
            let width = (self.cols - col).min(BLOCK);
            for (strip, row) in strip.iter_mut().zip(&rows) {
                if let Some((tensor, start)) = row {
                    read(tensor, start + col, &mut strip[..width]);
                }
            }
            emit(col, &strip);
        }
    }

    /// Writes a panel of int8 values and, after them, their scales.
    fn q8_panel(&self, panel: usize, out: &mut [Line]) {
        let (values, scales) = out.split_at_mut(self.cols.div_ceil(BLOCK) * QUADS);
        for lane in 0..LANES {
            let Some((tensor, start)) = self.find(panel * LANES + lane) else {
                return;
            };
            for (block, values) in values.chunks_exact_mut(QUADS).enumerate() {
                let col = block * BLOCK;
                let mut row = [0_i8; BLOCK];
                let width = (self.cols - col).min(BLOCK);
                let scale = tensor.read_q8(start + col, &mut row[..width]);
                for (to, quad) in values.iter_mut().zip(row.as_chunks::<QUAD>().0) {
                    to.0[lane * QUAD..][..QUAD].copy_from_slice(&quad.map(i8::cast_unsigned));
                }
                let (line, at) = q8::scale_at(block, lane);
                scales[line].0[at..at + 2].copy_from_slice(&scale.to_ne_bytes());
            }
        }
    }

    /// Checks each panel and calls `write` for it and its part of `out`, on a few threads.
    fn fill<T: Send>(
        &self,
        out: &mut [T],
        panel_len: usize,
        write: impl Fn(usize, &mut [T]) + Sync,
    ) -> Result<()> {
        /// Values that a thread takes at once: what is read of a file and not yet let go of.
        const PORTION: usize = 1 << 20;
        if panel_len == 0 {
            return Ok(());
        }
        let refused = OnceLock::<EngineError>::new();
        let panels = PORTION.div_ceil(self.cols * LANES);
        in_parallel(out.chunks_mut(panels * panel_len), |index, out| {
            for (i, out) in out.chunks_exact_mut(panel_len).enumerate() {
                let panel = index * panels + i;
                // Reading a panel for this brings it into the cache, where packing finds it.
                if let Err(error) = self.check(panel) {
                    // One of several is as good as another.
                    let _ = refused.set(error);
                    return;
                }
                write(panel, out);
            }
            self.release(index * panels * LANES, panels * LANES);
        });
        refused.into_inner().map_or(Ok(()), Err)
    }

    fn release(&self, mut row: usize, mut count: usize) {
        for part in self.parts {
            let rows = part.len() / self.cols;
            if row < rows {
                let end = (row + count).min(rows);
                part.release(row * self.cols..end * self.cols);
                count -= end - row;
                row = rows;
            }
            row -= rows;
        }
    }
}

/// Hands out items with their numbers to as many threads as there are processors, at most 4.
fn in_parallel<T>(items: impl ExactSizeIterator<Item = T> + Send, work: impl Fn(usize, T) + Sync) {
    let count = items.len();
    let items = std::sync::Mutex::new(items.enumerate());
    let next = || items.lock().ok().and_then(|mut items| items.next());
    let run = || {
        while let Some((index, item)) = next() {
            work(index, item);
        }
    };
    if cfg!(target_arch = "wasm32") {
        return run();
    }
    let threads = crate::DecodeOptions::default_threads().min(count);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread this one does all the work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, run);
        }
        run();
    });
}
