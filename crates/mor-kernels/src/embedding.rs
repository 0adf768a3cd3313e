//! The gradient of a table look-up.

use crate::check::check_len;
use crate::cross_entropy::TokenId;
use crate::profile::{Kernel, timer};

/// *Accumulates* `dtable[ids[row]] += dy[row]`, with `dy: [rows, dim]` and `dtable: [entries, dim]`.
///
/// An id outside the table (a negative one, for example) contributes nothing.
pub fn embedding_backward<T: TokenId>(ids: &[T], dim: usize, dy: &[f32], dtable: &mut [f32]) {
    let _timer = timer(Kernel::Embedding);
    check_len("dy", dy, &[ids.len(), dim]);
    if dim == 0 {
        return;
    }
    check_len("dtable", dtable, &[dtable.len() / dim, dim]);
    for (id, dy) in ids.iter().zip(dy.chunks_exact(dim)) {
        let Ok(id) = usize::try_from(id.to_i64()) else {
            continue;
        };
        let Some(row) = dtable.chunks_exact_mut(dim).nth(id) else {
            continue;
        };
        for (t, d) in row.iter_mut().zip(dy) {
            *t += d;
        }
    }
}
