//! What a decoded token launches, and what chooses the next one. It is the same for every token but for the launches'
//! numbers, so buffers are bound once for each context.

use super::buffers::Buffers;
use crate::gpu::device::{ALIGN, Grid, Launch, Reads, Recorder, Slice, stride};
use crate::gpu::plan::{LayerPipelines, Mode, Pipelines, RouterPipelines, SizedPipeline};
use crate::gpu::weights::{GpuModel, GpuPositions};
use crate::model::{NormOrder, most_steps};

/// What is done for a token, one after the other.
pub(super) struct TokenLaunches {
    pub(super) parts: Vec<Part>,
    /// What the steps read, by layer and step, if they are taken.
    pub(super) step_reads: Vec<Vec<Reads>>,
    /// What a launch between two layers reads, beside the routers.
    pub(super) route_reads: Reads,
}

/// A part of it.
pub(super) enum Part {
    /// A launch, with those of its numbers that are the same for every token.
    Launch {
        launch: Launch,
        layer: u32,
        step: u32,
    },
    /// The row is kept as the token's input of a layer, whose steps do not leave their states.
    KeepInput(usize),
}

impl From<Launch> for Part {
    fn from(launch: Launch) -> Self {
        Self::Launch {
            launch,
            layer: 0,
            step: 0,
        }
    }
}

/// What chooses a token.
pub(super) struct Choosing {
    /// The output head.
    pub(super) score: Launch,
    pub(super) sample: Launch,
}

/// Binds the buffers of a context to a model's kernels.
pub(super) struct Binder<'a> {
    pub(super) model: &'a GpuModel,
    pub(super) mode: Mode,
    pub(super) pipelines: &'a Pipelines,
    pub(super) layers: &'a [LayerPipelines],
    pub(super) router: Option<&'a RouterPipelines>,
    pub(super) finish: &'a SizedPipeline,
    pub(super) buffers: &'a Buffers,
    pub(super) recorder: &'a mut Recorder,
}

impl Binder<'_> {
    /// All launches of a token, whose routers `decide` or follow their last decision. The row is kept as an input of the
    /// layer `kept`.
    pub(super) fn token(&mut self, decide: bool, kept: Option<usize>) -> TokenLaunches {
        let (model, buffers) = (self.model, self.buffers);
        let mut all = TokenLaunches {
            parts: vec![self.embed(&buffers.x, 1).into()],
            step_reads: Vec::with_capacity(model.layers.len()),
            route_reads: Reads::default(),
        };
        // The norm that the row is owed where that is known here, and whether it is in `update`.
        let mut owed: Option<&Slice> = None;
        for (index, layer) in model.layers.iter().enumerate() {
            let routed = self.router.is_some() && layer.recurs;
            if routed {
                self.route(index, decide, &mut all);
            }
            if kept == Some(index) {
                all.parts.push(Part::KeepInput(index));
            }
            let depth = most_steps(&model.config, layer.recurs, self.mode.fixed());
            let mut reads = Vec::with_capacity(depth);
            for step in 0..depth {
                let pending = match step {
                    0 if routed => None,
                    0 => owed,
                    _ => (model.norm_order == NormOrder::Post).then_some(&layer.block.norm2),
                };
                let launches = self.step(index, step, pending, routed);
                reads.push(launches.iter().map(|launch| launch.reads).sum());
                all.parts
                    .extend(launches.into_iter().map(|launch| Part::Launch {
                        launch,
                        layer: 0,
                        step: step as u32,
                    }));
                owed = match model.norm_order {
                    NormOrder::Post => Some(&layer.block.norm2),
                    NormOrder::Pre => None,
                };
            }
            all.step_reads.push(reads);
        }
        all.parts.push(self.finish().into());
        all
    }

    /// Brings the row to its place.
    fn finish(&mut self) -> Launch {
        let (model, buffers) = (self.model, self.buffers);
        let (x, update) = (&buffers.x, &buffers.update);
        let last = model.layers.last().map(|layer| &layer.block.norm2);
        let mut bound = vec![x];
        if let (NormOrder::Post, Some(norm)) = (model.norm_order, last)
            && self.mode != Mode::Fixed(0)
        {
            bound.extend([update, norm]);
            if self.router.is_some() {
                bound.push(&buffers.routing);
            }
        }
        bound.extend(&buffers.routes);
        bound.extend([&buffers.hidden, &buffers.last]);
        self.recorder.prepare(
            &self.finish.pipeline,
            &bound,
            None,
            Grid::Known(self.finish.grid),
            // Whether the last layer took a step.
            &[(&buffers.routing, Reads::fixed(4))],
        )
    }

    /// The launches that choose a token.
    pub(super) fn choosing(&mut self) -> Choosing {
        let (model, buffers) = (self.model, self.buffers);
        let (head, sampler) = (&self.pipelines.head, &self.pipelines.sample);
        Choosing {
            score: self.recorder.prepare(
                &head.pipeline,
                &[
                    &buffers.last,
                    &model.head.slice,
                    &model.final_norm,
                    &buffers.logits,
                ],
                None,
                Grid::Known(head.grid),
                &[],
            ),
            sample: self.recorder.prepare(
                sampler,
                &[
                    &buffers.logits,
                    &buffers.weights,
                    &buffers.ids,
                    &buffers.choice,
                    &buffers.options,
                ],
                None,
                Grid::Known(sampler.grid(1)),
                // Repetition is measured against the tokens so far.
                &[(&buffers.ids, Reads::per_position(4))],
            ),
        }
    }

    /// The embedding of some tokens, into rows of `to`.
    pub(super) fn embed(&mut self, to: &Slice, rows: u32) -> Launch {
        let (model, buffers) = (self.model, self.buffers);
        let width = stride(model.config.hidden_size) as u64 * 4;
        let table = &model.table;
        let count = u64::from(rows);
        let row_of_table = count * table.bytes() / u64::from(table.rows.max(1));
        let mut partly = vec![
            (&buffers.ids, Reads::fixed(count * 4)),
            (&table.slice, Reads::fixed(row_of_table)),
        ];
        let mut bound = vec![&buffers.ids, &table.slice];
        if let GpuPositions::Added(positions) = &model.positions {
            bound.push(positions);
            partly.push((positions, Reads::fixed(count * width)));
        }
        bound.extend(&model.embedding_norm);
        bound.push(to);
        let embed = &self.pipelines.embed;
        let grid = Grid::Known(embed.grid(rows));
        self.recorder.prepare(embed, &bound, None, grid, &partly)
    }

    /// Between two layers: settles the row, and decides the depth of the layer, or follows the last decision. Nothing
    /// where the layer before takes no step: its launch went on to this one.
    fn route(&mut self, index: usize, decide: bool, all: &mut TokenLaunches) {
        let buffers = self.buffers;
        let (Some(router), Some(weights)) = (self.router, &self.model.routers) else {
            return;
        };
        let kernel = if decide {
            &router.route
        } else {
            &router.follow
        };
        let mut bound = vec![&buffers.x];
        if weights.layout.norm.is_some() {
            bound.push(&buffers.update);
        }
        bound.extend([&weights.slice, &buffers.routing]);
        if decide {
            bound.extend(&buffers.sums);
            bound.extend([&buffers.arguments, &buffers.scratch]);
        }
        // Every router is asked once, by one launch or another; there is nothing to settle before the first.
        let before = index.checked_sub(weights.layers.start + 1);
        let size = buffers.routes.as_ref().zip(before);
        let (grid, unread) = match size {
            None => (Grid::Known(kernel.grid), &buffers.update),
            Some((sizes, before)) => {
                let size = sizes.from(before * ALIGN);
                (Grid::Decided(size.buffer, size.offset), &weights.slice)
            }
        };
        let partly = [(unread, Reads::default())];
        let launch = self
            .recorder
            .prepare(&kernel.pipeline, &bound, None, grid, &partly);
        if size.is_some() {
            all.route_reads = launch.reads;
        }
        all.parts.push(Part::Launch {
            launch,
            layer: index as u32,
            step: 0,
        });
    }
}
