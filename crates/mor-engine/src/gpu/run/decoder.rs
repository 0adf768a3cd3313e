//! A context on a GPU.

use std::sync::Arc;

use mor_config::{ModelConfig, Pooling};

use super::bind::{Binder, Choosing, TokenLaunches};
use super::buffers::{Buffers, CHOICE_BYTES, LayerNeeds};
use crate::gpu::device::{Counters, Gpu, Params, Recorder, Slice, stride};
use crate::gpu::plan::{
    LayerPipelines, Mode, Pipelines, Programs, RouterPipelines, SizedPipeline, check_rounds, header,
};
use crate::gpu::weights::GpuModel;
use crate::history::History;
use crate::model::most_steps;
use crate::{DecodeOptions, Result};

/// What the model made of the context so far, on a GPU: as [`crate::Decoder`], with the same results but for rounding.
pub struct GpuDecoder {
    pub(super) model: Arc<GpuModel>,
    pub(super) options: DecodeOptions,
    pub(super) mode: Mode,
    pub(super) buffers: Buffers,
    pub(super) pipelines: Pipelines,
    pub(super) layers: Vec<LayerPipelines>,
    pub(super) router: Option<RouterPipelines>,
    pub(super) finish: SizedPipeline,
    pub(super) recorder: Recorder,
    pub(super) choosing: Choosing,
    pub(super) history: History,
    /// Steps at the last token whose results were read.
    pub(super) steps: Vec<u8>,
    /// For a live router: how many positions have taken each step of each layer, and the layers' depths.
    pub(super) done: Vec<Vec<usize>>,
    pub(super) depths: Vec<usize>,
    /// Whether `last` holds the row of the last token.
    pub(super) settled: bool,
    /// What a decoded token launches where routers follow, and where they decide, once there was one.
    pub(super) token_launches: [Option<TokenLaunches>; 2],
    /// Whether routers decided on the last decoded token, and how many positions there were with it.
    pub(super) decoded: (bool, u64),
    /// Decoded tokens whose launches are recorded, but whose steps were not read yet.
    pub(super) unread: u64,
    /// Whether a live router's last decision was not compared with the one before it yet.
    pub(super) unchecked: bool,
    /// Whether `states` lack the inputs of some positions.
    pub(super) stale: bool,
}

impl std::fmt::Debug for GpuDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuDecoder")
            .field("mode", &self.mode)
            .field("ids", &self.history.ids())
            .finish()
    }
}

impl GpuDecoder {
    /// An empty context with all memory it will ever need, and all kernels compiled.
    ///
    /// # Errors
    /// [`crate::EngineError::Config`] when the depth exceeds the model's `max_steps`, [`crate::EngineError::GpuLimit`],
    /// [`crate::EngineError::GpuOutOfMemory`] or [`crate::EngineError::DeviceLost`].
    pub async fn new(model: Arc<GpuModel>, options: DecodeOptions) -> Result<Self> {
        let config = &model.config;
        let mode = Mode::of(config, options)?;
        check_rounds(&model, mode)?;
        let Programs {
            layers,
            pipelines,
            router,
            finish,
        } = Programs::compile(&model, mode);
        let operations = layers
            .last()
            .map_or(0, |pipelines| pipelines.plain.grids().len());
        let needs: Vec<_> = model
            .layers
            .iter()
            .map(|layer| LayerNeeds {
                steps: most_steps(config, layer.recurs, mode.fixed()),
                sums: layer.recurs && router.is_some(),
                states: layer.recurs && mode == Mode::Live,
            })
            .collect();
        let context = stride(config.max_position_embeddings) as u64;
        let width = stride(config.hidden_size) as u64;
        let caches: u64 = needs.iter().map(|needs| needs.steps as u64).sum();
        let gpu = Arc::clone(&model.gpu);
        let (buffers, mut recorder) = gpu
            .allocate(
                &format!("caches of {} bytes", caches * 2 * context * width * 4),
                || {
                    let buffers = Buffers::new(&model, &needs, operations)?;
                    Ok((buffers, Recorder::new(Arc::clone(&gpu))?))
                },
            )
            .await?;
        gpu.check()?;
        let fixed = match mode {
            Mode::Fixed(depth) => depth as u8,
            _ => 0,
        };
        let choosing = Binder {
            model: &model,
            mode,
            pipelines: &pipelines,
            layers: &layers,
            router: router.as_ref(),
            finish: &finish,
            buffers: &buffers,
            recorder: &mut recorder,
        }
        .choosing();
        Ok(Self {
            options,
            mode,
            choosing,
            pipelines,
            finish,
            layers,
            router,
            buffers,
            recorder,
            history: History::new(config, options.routing),
            steps: vec![fixed; config.routed_depths()],
            done: needs.iter().map(|needs| vec![0; needs.steps]).collect(),
            depths: vec![0; needs.len()],
            settled: false,
            token_launches: [None, None],
            decoded: (false, 0),
            unread: 0,
            unchecked: false,
            stale: false,
            model,
        })
    }

    /// An empty context of the same model, with other options.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub async fn with_options(&self, options: DecodeOptions) -> Result<Self> {
        Self::new(Arc::clone(&self.model), options).await
    }

    /// The model.
    pub fn model(&self) -> &Arc<GpuModel> {
        &self.model
    }

    /// Where it runs.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.model.gpu
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// How it runs.
    pub fn options(&self) -> DecodeOptions {
        self.options
    }

    /// The tokens so far.
    pub fn ids(&self) -> &[u32] {
        self.history.ids()
    }

    /// Most tokens the context holds.
    pub fn capacity(&self) -> usize {
        self.history.capacity()
    }

    /// Steps taken at the last token, as [`crate::Decoder::steps`]; known once the token after it was chosen or its
    /// logits were read.
    pub fn steps(&self) -> &[u8] {
        &self.steps
    }

    /// Steps of every position of the context, for each recursive layer in turn: a read-back of its own where routers
    /// decide by position.
    ///
    /// # Errors
    /// The device's.
    pub async fn steps_by_position(&mut self) -> Result<Vec<Vec<u8>>> {
        self.confirm().await?;
        let len = self.history.len();
        let own = self.mode == Mode::OnDevice && self.config().routing.pooling == Pooling::Prefix;
        let Some(router) = self.router.as_ref().filter(|_| own && len > 0) else {
            let all = self.steps.iter().map(|steps| vec![*steps; len]);
            return Ok(all.collect());
        };
        let (context, header) = (router.decision.context, router.decision.header);
        let bytes = self.buffers.routing.size;
        let readable = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.gpu().buffer("routing", bytes, readable)?;
        let to = Slice {
            buffer: staging.clone(),
            offset: 0,
            size: bytes,
        };
        self.recorder.copy(self.buffers.routing.clone(), to);
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&self.recorder.read(&staging).await?);
        let layers = self
            .model
            .layers
            .iter()
            .zip(0..)
            .filter(|(layer, _)| layer.recurs);
        let depths = layers.map(|(_, index): (_, u32)| {
            let at = (header + 2 * index * context) as usize;
            words[at..][..len]
                .iter()
                .map(|depth| *depth as u8)
                .collect()
        });
        Ok(depths.collect())
    }

    /// What it asked of the GPU so far. Launches that a router sizes count once their steps are known.
    pub fn counters(&self) -> Counters {
        self.recorder.counters
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.truncate(0);
        self.history.clear();
        let forgotten = self.recorder.clear();
        if let (true, Some(routes)) = (forgotten, &self.buffers.routes) {
            // A token may have been submitted in part, without what empties them at its end.
            let empty = vec![0; routes.size as usize];
            self.model.gpu.queue.write_buffer(&routes.buffer, 0, &empty);
        }
        self.unread = 0;
        self.unchecked = false;
    }

    /// Numbers for launches over `rows` rows from position `first` on.
    pub(super) fn params(&self, rows: usize, first: usize) -> Params {
        let visible = self.history.visible().get(first).copied().unwrap_or(true);
        Params {
            rows: rows as u32,
            keys: stride(self.capacity()) as u32,
            first: first as u32,
            counts: visible || self.model.config.routing.pooling == Pooling::Sequence,
            visible,
            decide: true,
            ..Params::default()
        }
    }

    /// A position's row of `hidden`.
    pub(super) fn hidden_row(&self, position: usize) -> Slice {
        self.buffers.hidden.from(position * self.width())
    }

    /// Elements between rows.
    pub(super) fn width(&self) -> usize {
        stride(self.model.config.hidden_size)
    }

    /// Submits, and reads the header of `routing`.
    pub(super) async fn read_routing(&mut self) -> Result<Vec<u8>> {
        let words = header(self.model.layers.len());
        let staging = self.buffers.staging.clone();
        let to = Slice {
            buffer: staging.clone(),
            offset: CHOICE_BYTES,
            size: words as u64 * 4,
        };
        self.recorder.copy(self.buffers.routing.first(words), to);
        let mut read = self.recorder.read(&staging).await?;
        Ok(read.split_off(CHOICE_BYTES as usize))
    }

    /// Takes in the header of `routing`, as read back. False if a live router changed its mind, so that everything has
    /// to be read again.
    pub(super) fn know_steps(&mut self, routing: &[u8]) -> bool {
        if let Mode::Fixed(_) = self.mode {
            return true;
        }
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(routing);
        let layers = self.model.layers.iter().zip(words.iter().skip(1));
        let recursive = layers.filter(|(layer, _)| layer.recurs);
        let taken: Vec<u8> = recursive.map(|(_, steps)| *steps as u8).collect();
        let changed = std::mem::take(&mut self.unchecked) && self.steps != taken;
        self.steps.copy_from_slice(&taken);
        self.count_steps();
        !changed
    }
}
