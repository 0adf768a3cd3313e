//! Causal attention over many query rows: a prompt's in the engine, all of a batch's in training.

use crate::shader::Builder;
use crate::{MOST_ROUNDS, Shader, Variant, element};

/// Score of a key that is not seen, and the logarithm left for a row that sees none: near the lowest f32, without
/// overflow in differences.
const HIDDEN: f32 = -3.0e38;
/// Invocations of a workgroup that shares tiles.
const SHARING: u32 = 64;
/// Invocations of a workgroup that does not; few, so that short prompts fill all cores.
const PORTABLE: u32 = 16;

/// `softmax(q · kᵀ / √head_dim) · v` by heads that lie side by side in a row, each query row seeing the keys up to its
/// own position. See `shaders/attention.wgsl`.
///
/// Bindings, in this order: `q: [batch][rows][q_stride]`, `k` and `v: [batch][keys][kv_stride]`; if `masked`
/// `visible: [batch][keys]` of u32; if `indexed` `positions: [batch][rows]` of u32; `out: [batch][rows][out_stride]`;
/// if `store_lse` `lse: [batch][heads][rows]` of f32; `params` of u32: rows, keys (the stride of `k`, `v` and
/// `visible` between entries of the batch), first, step.
///
/// Row `i` is at position `first + i`, or if `indexed` at `first + positions[i]`, which must not fall from row to
/// row; so the list of [`crate::select`] serves as it is. A key is seen if it is not later than the row, and if
/// `masked` where `visible > step`. A row that sees none gets zeros, and the lowest `lse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attention {
    /// Numbers of a row: heads times their size, which is 256 at most.
    pub dim: u32,
    /// Heads.
    pub heads: u32,
    /// Elements between rows of `q`.
    pub q_stride: u32,
    /// Elements between rows of `k` and `v`.
    pub kv_stride: u32,
    /// Elements between rows of `out`.
    pub out_stride: u32,
    /// Whether rows were gathered, so that their positions come in a buffer.
    pub indexed: bool,
    /// Whether some keys may be hidden.
    pub masked: bool,
    /// Whether to keep what the backward pass needs.
    pub store_lse: bool,
    /// Whether `q`, `k`, `v` and `out` are f16.
    pub half: bool,
}

/// The numbers of bindings, in the order they are asked for.
struct Bindings {
    builder: Builder,
    next: u32,
}

impl Bindings {
    fn after(builder: Builder, next: u32) -> Self {
        Self { builder, next }
    }

    fn bind(mut self, name: &str) -> Self {
        self.builder = self.builder.constant(name, self.next);
        self.next += 1;
        self
    }

    fn include(mut self, source: &str) -> Self {
        self.builder = self.builder.include(source);
        self
    }

    /// What both passes may be given beside `q`, `k` and `v`.
    fn visible_and_positions(self, op: &Attention) -> Self {
        let keys = match op.masked {
            true => self
                .bind("VISIBLE_BINDING")
                .include(include_str!("../../../shaders/include/keys_masked.wgsl")),
            false => self.include(include_str!("../../../shaders/include/keys_all.wgsl")),
        };
        match op.indexed {
            true => keys.bind("POSITIONS_BINDING").include(include_str!(
                "../../../shaders/include/positions_indexed.wgsl"
            )),
            false => keys.include(include_str!(
                "../../../shaders/include/positions_dense.wgsl"
            )),
        }
    }
}

/// The largest power of two that is not above `limit`.
fn power_of_two(limit: u32) -> u32 {
    1 << limit.max(1).ilog2()
}

impl Attention {
    /// Size of a head.
    pub fn head_dim(&self) -> u32 {
        self.dim / self.heads
    }

    /// The forward pass.
    pub fn shader(&self, variant: Variant) -> Shader {
        let (size, file) = match sharing(variant) {
            false => (
                PORTABLE,
                include_str!("../../../shaders/attention.portable.wgsl"),
            ),
            true => (SHARING, include_str!("../../../shaders/attention.wgsl")),
        };
        let builder = self.sizes(Builder::new("attention", plain(variant), size));
        let builder = builder
            .constant("TILE_ROWS", self.tile())
            .constant("TILE_KEYS", self.tile_keys());
        let bindings = Bindings::after(builder, 3)
            .visible_and_positions(self)
            .bind("OUT_BINDING");
        let bindings = match self.store_lse {
            true => bindings
                .bind("LSE_BINDING")
                .include(include_str!("../../../shaders/include/lse_store.wgsl")),
            false => bindings.include(include_str!("../../../shaders/include/lse_drop.wgsl")),
        };
        element::build(bindings.bind("PARAMS_BINDING").builder, file, self.half)
    }

    /// The backward pass to the queries, which comes first. Bindings: `q`, `k`, `v`, then `visible` and `positions`
    /// where the forward pass had them; `out`, `d_out` and `lse`; the results `d_q`, shaped as `q`, and `delta:
    /// [batch][heads][rows]` of f32; `params`. Grid: [`Self::workgroups`].
    pub fn backward_q(&self, variant: Variant) -> Shader {
        let (size, file) = match sharing(variant) {
            false => (
                PORTABLE,
                include_str!("../../../shaders/attention_backward_q.portable.wgsl"),
            ),
            true => (
                SHARING,
                include_str!("../../../shaders/attention_backward_q.wgsl"),
            ),
        };
        let rows = self.tile();
        let keys = power_of_two((1024 / self.head_dim()).min(512 / rows));
        let builder = self.sizes(Builder::new("attention backward q", plain(variant), size));
        let builder = builder
            .constant("TILE_ROWS", rows)
            .constant("TILE_KEYS", keys);
        let mut bindings = Bindings::after(builder, 3).visible_and_positions(self);
        for name in ["OUT", "D_OUT", "LSE", "D_Q", "DELTA", "PARAMS"] {
            bindings = bindings.bind(&format!("{name}_BINDING"));
        }
        element::build(bindings.builder, file, self.half)
    }

    /// The backward pass to keys and values. Bindings: `q`, `k`, `v`, then `visible` and `positions` where the
    /// forward pass had them; `d_out`, `lse` and `delta`; the results `d_k` and `d_v`, shaped as `k`; `params`. Grid:
    /// that of [`Self::workgroups`] with keys in place of rows.
    pub fn backward_kv(&self, variant: Variant) -> Shader {
        let (size, file) = match sharing(variant) {
            false => (
                PORTABLE,
                include_str!("../../../shaders/attention_backward_kv.portable.wgsl"),
            ),
            true => (
                SHARING,
                include_str!("../../../shaders/attention_backward_kv.wgsl"),
            ),
        };
        let keys = self.tile();
        let rows = power_of_two((512 / self.head_dim()).min(256 / keys));
        let builder = self.sizes(Builder::new("attention backward kv", plain(variant), size));
        let builder = builder
            .constant("TILE_ROWS", rows)
            .constant("TILE_KEYS", keys);
        let mut bindings = Bindings::after(builder, 3).visible_and_positions(self);
        for name in ["D_OUT", "LSE", "DELTA", "D_K", "D_V", "PARAMS"] {
            bindings = bindings.bind(&format!("{name}_BINDING"));
        }
        element::build(bindings.builder, file, self.half)
    }

    /// The grid over `rows` query rows of each of `batch` entries.
    pub fn workgroups(&self, variant: Variant, rows: u32, batch: u32) -> [u32; 3] {
        let tile = self.rows_per_workgroup(variant);
        [rows.div_ceil(tile), self.heads, batch]
    }

    /// Query rows, or in [`Self::backward_kv`] keys, of a workgroup.
    pub fn rows_per_workgroup(&self, variant: Variant) -> u32 {
        match sharing(variant) {
            false => PORTABLE,
            true => self.tile(),
        }
    }

    /// The most keys that every driver gets through in the forward pass, see [`crate::MOST_ROUNDS`].
    pub fn most_keys(&self, variant: Variant) -> u32 {
        if !sharing(variant) {
            return MOST_ROUNDS;
        }
        let (rows, keys) = (self.tile(), self.tile_keys());
        let sharers = SHARING / rows;
        let part = self.head_dim().div_ceil(sharers);
        // Two times loading a tile, scoring and weighting its keys, and summing its values.
        let of_tile = 2 * (keys * self.head_dim()).div_ceil(SHARING) + 2 * keys.div_ceil(sharers);
        // Before and after the tiles: loading queries, and writing the row.
        let once = (rows * self.head_dim()).div_ceil(SHARING) + part;
        (MOST_ROUNDS - once) / (of_tile + part + 1) * keys
    }

    /// Bytes that a workgroup of the forward pass shares: 14 of the 16 KiB that every adapter has, but with heads above 256
    /// values, of which a tile has a row or two all the same.
    pub fn shared_bytes(&self, variant: Variant) -> u32 {
        let (rows, keys) = (self.tile(), self.tile_keys());
        match sharing(variant) {
            false => 0,
            // Its tiles, and the slots that every sharing kernel has for its sums.
            true => 4 * ((rows + keys) * self.head_dim() + rows * keys + 5 * SHARING),
        }
    }

    /// Keys of the forward pass's tile.
    fn tile_keys(&self) -> u32 {
        power_of_two((2048 / self.head_dim()).min(512 / self.tile()))
    }

    /// Rows of a tile that stays in shared memory: some 1024 numbers.
    fn tile(&self) -> u32 {
        power_of_two((1024 / self.head_dim()).min(32))
    }

    fn sizes(&self, builder: Builder) -> Builder {
        builder
            .constant("HEADS", self.heads)
            .constant("HEAD_DIM", self.head_dim())
            .constant("Q_STRIDE", self.q_stride)
            .constant("KV_STRIDE", self.kv_stride)
            .constant("OUT_STRIDE", self.out_stride)
            .float("SCALE", (self.head_dim() as f32).sqrt().recip())
            .float("HIDDEN", HIDDEN)
    }
}

fn sharing(variant: Variant) -> bool {
    variant != Variant::Portable
}

/// Nothing here is a sum over a workgroup, so subgroups would save nothing.
fn plain(variant: Variant) -> Variant {
    match variant {
        Variant::Subgroup => Variant::Workgroup,
        other => other,
    }
}
