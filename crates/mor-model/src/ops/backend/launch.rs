//! Running a shader of `mor-shaders` on tensors of Burn.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use burn::backend::wgpu::{CubeDim, KernelSource, SourceKernel, SourceTemplate};
use burn::cubecl::CubeCount;
use burn::cubecl::client::Client;
use burn::cubecl::prelude::KernelId;
use burn::cubecl::server::{Handle, KernelArguments, MetadataBindingInfo};
use mor_shaders::{
    Attention, ColumnSums, Gather, Gelu, LayerNormTraining, Replacement, RotaryTraining, RowLosses,
    Scatter, Shader, Variant, adamw, momentum, scaled_sum, select, sum_squares,
};

/// The variant of every kernel in this process, by its place among all.
static VARIANT: AtomicU8 = AtomicU8::new(0);

/// Makes kernels use this variant from now on.
pub(crate) fn set_variant(variant: Variant) {
    let at = Variant::ALL.iter().position(|v| *v == variant);
    VARIANT.store(at.unwrap_or(0) as u8, Ordering::Relaxed);
}

/// The variant that kernels use.
pub(crate) fn variant() -> Variant {
    let at = usize::from(VARIANT.load(Ordering::Relaxed));
    Variant::ALL.get(at).copied().unwrap_or(Variant::Portable)
}

/// Bytes of the largest buffer that a kernel can be given; no bound before an adapter is open.
static LARGEST_BUFFER: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Tells how large a buffer the adapter gives a kernel.
pub(crate) fn set_largest_buffer(bytes: usize) {
    LARGEST_BUFFER.store(bytes, Ordering::Relaxed);
}

/// Bytes of the largest buffer that a kernel can be given.
pub(crate) fn largest_buffer() -> usize {
    LARGEST_BUFFER.load(Ordering::Relaxed)
}

/// Where kernels are launched: a process has one GPU.
static CLIENT: OnceLock<Client> = OnceLock::new();

/// Where kernels were launched, if any was.
pub(crate) fn client() -> Option<&'static Client> {
    CLIENT.get()
}

/// Another text for the shaders of an operation.
static REPLACEMENT: Mutex<Option<Replacement>> = Mutex::new(None);

/// Makes the kernels of an operation others, or what they are.
pub(crate) fn replace(with: Option<Replacement>) {
    *REPLACEMENT.lock().unwrap_or_else(PoisonError::into_inner) = with;
}

/// A shader by what it is made for, which is how Burn tells compiled kernels apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Attention(Attention),
    AttentionBackwardQ(Attention),
    AttentionBackwardKv(Attention),
    Select,
    Gather(Gather),
    Scatter(Scatter),
    Clear(Scatter),
    AdamW,
    Momentum,
    ScaledSum,
    SumSquares,
    LayerNorm(LayerNormTraining),
    LayerNormBackward(LayerNormTraining),
    LayerNormBackwardChunks(LayerNormTraining),
    LayerNormBackwardSum(LayerNormTraining),
    Rotary(RotaryTraining),
    Gelu(Gelu),
    GeluBackward(Gelu),
    RowLosses(RowLosses),
    RowLossesBackward(RowLosses),
    ColumnSums(ColumnSums),
}

impl Op {
    fn shader(self, variant: Variant) -> Shader {
        match self {
            Self::Attention(op) => op.shader(variant),
            Self::AttentionBackwardQ(op) => op.backward_q(variant),
            Self::AttentionBackwardKv(op) => op.backward_kv(variant),
            Self::Select => select(variant),
            Self::Gather(op) => op.of_known_rows(),
            Self::Scatter(op) => op.of_known_rows(),
            Self::Clear(op) => op.clear(),
            Self::AdamW => adamw(),
            Self::Momentum => momentum(),
            Self::ScaledSum => scaled_sum(),
            Self::SumSquares => sum_squares(variant),
            Self::LayerNorm(op) => op.shader(variant),
            Self::LayerNormBackward(op) => op.backward(variant),
            Self::LayerNormBackwardChunks(op) => op.backward_chunks(),
            Self::LayerNormBackwardSum(op) => op.backward_sum(variant),
            Self::Rotary(op) => op.shader(),
            Self::Gelu(op) => op.shader(),
            Self::GeluBackward(op) => op.backward(),
            Self::RowLosses(op) => op.shader(variant),
            Self::RowLossesBackward(op) => op.backward(),
            Self::ColumnSums(op) => op.shader(),
        }
    }
}

/// A kernel as Burn takes it.
struct Kernel {
    op: Op,
    variant: Variant,
    /// Address of the function that makes another text of it, if one does.
    replaced: Option<usize>,
    shader: Arc<Shader>,
}

impl KernelSource for Kernel {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.shader.source_read_write())
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info((self.op, self.variant, self.replaced))
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// The shader's text, put together once.
fn shader(op: Op, variant: Variant) -> Arc<Shader> {
    type Known = HashMap<(Op, Variant), Arc<Shader>>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = known.entry((op, variant));
    Arc::clone(entry.or_insert_with(|| Arc::new(op.shader(variant))))
}

/// Queues a shader on these buffers, in the order of its bindings, and with `params` in the last one.
///
/// CubeCL uploads the latter as it does the shapes of its own kernels: once for all launches with the same numbers, and
/// without submitting what is queued, which a buffer of their own would cost each launch.
pub(crate) fn launch(
    client: &Client,
    op: Op,
    grid: [u32; 3],
    buffers: Vec<Handle>,
    params: &[u32],
) {
    CLIENT.get_or_init(|| client.clone());
    let variant = variant();
    let mut shader = shader(op, variant);
    let with = *REPLACEMENT.lock().unwrap_or_else(PoisonError::into_inner);
    let replaced = with.and_then(|with| with.apply(&shader));
    let edit = replaced.as_ref().and(with).map(|with| with.edit as usize);
    if let Some(replaced) = replaced {
        shader = Arc::new(replaced);
    }
    let size = CubeDim::new_1d(shader.workgroup_size);
    let kernel = Kernel {
        op,
        variant,
        replaced: edit,
        shader,
    };
    client.launch(
        Box::new(SourceKernel::new(kernel, size)),
        CubeCount::Static(grid[0], grid[1], grid[2]),
        KernelArguments::new()
            .with_buffers(buffers.into_iter().map(Handle::binding).collect())
            .with_info(MetadataBindingInfo::custom(packed(params))),
    );
}

/// Queues a shader that goes by units on that many of them.
pub(crate) fn launch_units(
    client: &Client,
    op: Op,
    units: usize,
    buffers: Vec<Handle>,
    params: &[u32],
) {
    let grid = shader(op, variant()).grid(units as u32);
    launch(client, op, grid, buffers, params);
}

/// Numbers as a shader reads them. It counts in u32, and Burn refuses tensors that would not fit.
pub(crate) fn numbers<const N: usize>(values: [usize; N]) -> [u32; N] {
    values.map(|value| value as u32)
}

/// Pairs of numbers, filled up with a zero.
fn packed(params: &[u32]) -> Vec<u64> {
    let pairs = params.chunks(2);
    let pairs = pairs.map(|pair| [pair[0], pair.get(1).copied().unwrap_or(0)]);
    pairs.map(bytemuck::cast).collect()
}
