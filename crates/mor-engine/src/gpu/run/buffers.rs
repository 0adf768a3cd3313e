//! A decoder's memory on the GPU.

use mor_config::ModelConfig;
use mor_shaders::Sample;

use crate::Result;
use crate::gpu::device::{ALIGN, Buffer, STORAGE, Slice, stride};
use crate::gpu::plan::{header, routes};
use crate::gpu::weights::GpuModel;

/// Rows that pass through a layer together.
pub(super) const BLOCK: usize = 128;

/// Keys and values of one step of one layer, `[context][stride]` each.
pub(super) struct Cache {
    pub(super) keys: Slice,
    pub(super) values: Slice,
}

/// What a layer keeps.
pub(super) struct LayerBuffers {
    /// One a step.
    pub(super) caches: Vec<Cache>,
    /// Its part of [`Buffers::sums`], where a router pools its inputs.
    pub(super) sums: Option<Slice>,
    /// Its input and its state after each step, `[context][stride]`, where a live router may change its mind about
    /// earlier positions.
    pub(super) states: Vec<Slice>,
}

/// A decoder's memory on the GPU.
pub(super) struct Buffers {
    /// Tokens by position.
    pub(super) ids: Slice,
    /// By position, 0 at pads, and more than any number of steps elsewhere.
    pub(super) visible: Slice,
    /// What came of every position, `[context][stride]`; its input on the way there.
    pub(super) hidden: Slice,
    /// The row of a decoded token.
    pub(super) x: Slice,
    /// What steps make of it.
    pub(super) update: Slice,
    /// For rows of a block: normalised rows, attention's input and result, a residual.
    pub(super) normed: Slice,
    pub(super) z: Slice,
    pub(super) qkv: Slice,
    pub(super) queries: Slice,
    pub(super) mixed: Slice,
    pub(super) attended: Slice,
    pub(super) inner: Slice,
    /// Rows of a block that take a step.
    pub(super) gathered: Slice,
    pub(super) list: Slice,
    pub(super) counts: Slice,
    /// The numbers of launches on them.
    pub(super) numbers: Slice,
    /// Sizes of a prefill step's dispatches.
    pub(super) sizes: Slice,
    /// What routers see, and make of it.
    pub(super) means: Slice,
    pub(super) pooled: Slice,
    pub(super) router_hidden: Slice,
    pub(super) scores: Slice,
    pub(super) scratch: Slice,
    /// Of the inputs that routers pool; see `shaders/route.wgsl`.
    pub(super) sums: Option<Slice>,
    /// See `shaders/include/decision.wgsl`.
    pub(super) routing: Slice,
    pub(super) arguments: Slice,
    /// Sizes of the launches after layers that have routers, `[routers][64]`; see `shaders/route.wgsl`.
    pub(super) routes: Option<Slice>,
    /// The row that logits are made of, and the logits.
    pub(super) last: Slice,
    pub(super) logits: Slice,
    pub(super) weights: Slice,
    pub(super) choice: Slice,
    pub(super) options: Slice,
    /// What is read back.
    pub(super) staging: Buffer,
    pub(super) logits_staging: Buffer,
    pub(super) layers: Vec<LayerBuffers>,
}

/// Bytes of a choice, before the routing's header.
pub(super) const CHOICE_BYTES: u64 = 256;

/// How many steps a layer keeps caches for, and whether it has a router's sums and states.
pub(super) struct LayerNeeds {
    pub(super) steps: usize,
    pub(super) sums: bool,
    pub(super) states: bool,
}

impl Buffers {
    pub(super) fn new(model: &GpuModel, needs: &[LayerNeeds], operations: usize) -> Result<Self> {
        let config: &ModelConfig = &model.config;
        let gpu = &model.gpu;
        let context = stride(config.max_position_embeddings);
        let block = BLOCK.min(context);
        let dim = stride(config.hidden_size);
        let of =
            |what: &str, width: usize, rows: usize| gpu.storage(what, width.saturating_mul(rows));
        let rows = |width: usize| of("a block's rows", width, block);
        let sums_size = (2 * dim + 64).saturating_mul(context);
        let pooled = needs.iter().filter(|needs| needs.sums).count();
        let sums = match pooled {
            0 => None,
            _ => Some(of("the routers' sums", sums_size, pooled)?),
        };
        let mut parts = (0..pooled).map(|part| part * sums_size);
        let mut next_sums = || {
            let (sums, at) = sums.as_ref().zip(parts.next())?;
            Some(sums.from(at).first(sums_size))
        };
        let layers = needs.iter().map(|needs| {
            let cache = |_| {
                Ok(Cache {
                    keys: of("a cache of keys", dim, context)?,
                    values: of("a cache of values", dim, context)?,
                })
            };
            let state = |_| of("a layer's states", dim, context);
            Ok(LayerBuffers {
                caches: (0..needs.steps).map(cache).collect::<Result<_>>()?,
                sums: needs.sums.then(&mut next_sums).flatten(),
                states: match needs.states {
                    true => (0..=needs.steps).map(state).collect::<Result<_>>()?,
                    false => Vec::new(),
                },
            })
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let count = layers.len();
        let arguments = gpu.buffer(
            "sizes of dispatches",
            (count * config.routing.max_steps.max(1) * operations * 12) as u64,
            STORAGE | wgpu::BufferUsages::INDIRECT,
        )?;
        let sizes = gpu.buffer(
            "sizes of a block's dispatches",
            64 * 12,
            STORAGE | wgpu::BufferUsages::INDIRECT,
        )?;
        let route_sizes = match routes(pooled) {
            Some(count) => Some(gpu.buffer(
                "sizes of launches after layers",
                (count as usize * ALIGN * 4) as u64,
                STORAGE | wgpu::BufferUsages::INDIRECT,
            )?),
            None => None,
        };
        let whole = |buffer: Buffer| {
            let size = buffer.size();
            Slice {
                buffer,
                offset: 0,
                size,
            }
        };
        let readable = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let vocab = config.vocab_size;
        let header_bytes = header(count) as u64 * 4;
        Ok(Self {
            ids: of("tokens", context, 1)?,
            visible: of("visible positions", context, 1)?,
            hidden: of("hidden states", dim, context)?,
            x: of("a row", dim, 1)?,
            update: of("a row", dim, 1)?,
            normed: rows(dim)?,
            z: rows(dim)?,
            qkv: rows(stride(3 * config.hidden_size))?,
            queries: rows(dim)?,
            mixed: rows(dim)?,
            attended: rows(dim)?,
            inner: rows(stride(config.intermediate_size))?,
            gathered: rows(dim)?,
            list: of("rows that take a step", context, 1)?,
            counts: of("their number", 64, 1)?,
            numbers: of("numbers of launches on them", 64, 1)?,
            sizes: whole(sizes),
            means: rows(dim)?,
            pooled: rows(dim)?,
            router_hidden: rows(stride(config.router_hidden()))?,
            scores: rows(stride(model.class_steps.len()))?,
            scratch: of(
                "a router's scratch",
                3 * dim + 64 + stride(model.class_steps.len()),
                1,
            )?,
            sums,
            routing: of("routing", header(count) + 2 * context * count, 1)?,
            arguments: whole(arguments),
            routes: route_sizes.map(whole),
            last: of("a row", dim, 1)?,
            logits: of("logits", stride(vocab), 1)?,
            weights: of(
                "a sampler's weights",
                stride(vocab) + Sample::SCRATCH as usize,
                1,
            )?,
            choice: of("a choice", 64, 1)?,
            options: of("a sampler's options", 64, 1)?,
            staging: gpu.buffer("a result", CHOICE_BYTES + header_bytes, readable)?,
            logits_staging: gpu.buffer("logits", vocab as u64 * 4 + header_bytes, readable)?,
            layers,
        })
    }
}
