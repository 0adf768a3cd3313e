//! One token.

use std::sync::Arc;

use super::buffers::Cache;
use super::decoder::GpuDecoder;
use crate::gpu::device::{ALIGN, Grid, Params, Recorder, Slice};
use crate::gpu::plan::{Mode, SizedPipeline, StepPipelines};
use crate::gpu::weights::{GpuLayer, GpuPositions};
use crate::model::{NormOrder, most_steps};

/// Where the row of a step is, and how it is read.
struct Row<'a> {
    input: &'a Slice,
    /// The norm that is still owed to it.
    owed: Option<&'a Slice>,
    output: &'a Slice,
}

impl GpuDecoder {
    /// Takes the token at `position` through all layers, whose routers `decide` or follow their last decision.
    pub(super) fn decode(&mut self, position: usize, decide: bool) {
        let model = Arc::clone(&self.model);
        let params = self.params(1, position);
        self.embed(&self.buffers.x.clone(), params);
        // The norm that the row is owed where that is known here, and whether it is in `update`.
        let mut owed: Option<&Slice> = None;
        for (index, layer) in model.layers.iter().enumerate() {
            let routed = self.router.is_some() && layer.recurs;
            if routed {
                self.route(index, params, decide);
            }
            if self.resumes_at() == Some(index) {
                self.keep_input(index, position);
            }
            let depth = most_steps(&model.config, layer.recurs, self.mode.fixed());
            for step in 0..depth {
                let params = Params {
                    step: step as u32,
                    ..params
                };
                let pending = match step {
                    0 if routed => None,
                    0 => owed,
                    _ => (model.norm_order == NormOrder::Post).then_some(&layer.block.norm2),
                };
                self.step(index, step, pending, params, routed);
                owed = match model.norm_order {
                    NormOrder::Post => Some(&layer.block.norm2),
                    NormOrder::Pre => None,
                };
            }
        }
        let buffers = &self.buffers;
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
        self.recorder.launch(
            &self.finish.pipeline,
            &bound,
            params,
            Grid::Known(self.finish.grid),
            // Whether the last layer took a step.
            &[(&buffers.routing, 4)],
        );
        self.unread += 1;
    }

    /// Launches the embedding of the tokens that `params` names, into rows of `to`.
    pub(super) fn embed(&mut self, to: &Slice, params: Params) {
        let (model, buffers) = (&self.model, &self.buffers);
        let rows = u64::from(params.rows);
        let table = &model.table;
        let mut partly = vec![
            (&buffers.ids, rows * 4),
            (
                &table.slice,
                rows * table.bytes() / u64::from(table.rows.max(1)),
            ),
        ];
        let mut bound = vec![&buffers.ids, &table.slice];
        if let GpuPositions::Added(positions) = &model.positions {
            bound.push(positions);
            partly.push((positions, rows * self.width() as u64 * 4));
        }
        bound.extend(&model.embedding_norm);
        bound.push(to);
        let embed = &self.pipelines.embed;
        let grid = Grid::Known(embed.grid(params.rows));
        self.recorder.launch(embed, &bound, params, grid, &partly);
    }

    /// Between two layers: settles the row, and decides the depth of the layer, or follows the last decision. Nothing
    /// where the layer before takes no step: its launch went on to this one.
    fn route(&mut self, index: usize, params: Params, decide: bool) {
        let buffers = &self.buffers;
        let (Some(router), Some(weights)) = (&self.router, &self.model.routers) else {
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
        let params = Params {
            layer: index as u32,
            ..params
        };
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
        let launched = self
            .recorder
            .launch(&kernel.pipeline, &bound, params, grid, &[(unread, 0)]);
        if size.is_some() {
            self.route_reads = launched;
        }
    }

    /// Keeps the row as a position's input of a layer, whose steps there do not leave their states.
    fn keep_input(&mut self, index: usize, position: usize) {
        let width = self.width();
        let inputs = &self.buffers.layers[index].states[0];
        let to = inputs.from(position * width).first(width);
        self.recorder.copy(self.buffers.x.clone(), to);
        for done in &mut self.done[index] {
            *done = position.min(*done);
        }
    }

    /// Launches one step of a layer on the row: from `x`, or from `update` where a norm is owed to it.
    fn step(
        &mut self,
        index: usize,
        step: usize,
        owed: Option<&Slice>,
        params: Params,
        routed: bool,
    ) {
        let model = Arc::clone(&self.model);
        let layer = &model.layers[index];
        let buffers = &self.buffers;
        let post = model.norm_order == NormOrder::Post;
        let width = self.width();
        let row = match post {
            true => Row {
                input: if owed.is_some() {
                    &buffers.update
                } else {
                    &buffers.x
                },
                owed,
                output: &buffers.update,
            },
            // Nothing is owed: the row itself grows.
            false => Row {
                input: &buffers.x,
                owed: None,
                output: &buffers.x,
            },
        };
        let pipelines = match row.owed.is_some() {
            true => &self.layers[index].owed,
            false => &self.layers[index].plain,
        };
        let decision = self.router.as_ref().filter(|_| routed);
        let arguments = &buffers.arguments.buffer;
        let grid = |operation: usize, kernel: &SizedPipeline| match decision {
            None => Grid::Known(kernel.grid),
            Some(router) => Grid::Decided(
                arguments.clone(),
                router.decision.argument(index, step, operation),
            ),
        };
        // In a layer that recurs only the steps that may be taken have caches.
        let cache = &buffers.layers[index].caches[step];
        let visible = match decision {
            None => buffers.visible.clone(),
            Some(router) => {
                let at = router.decision.header + (2 * index as u32 + 1) * router.decision.context;
                buffers.routing.from(at as usize)
            }
        };
        let first = model.routers.as_ref().map_or(0, |all| all.layers.start);
        let next_route = buffers.routes.as_ref().filter(|_| layer.recurs);
        let next_route = next_route.map(|sizes| sizes.from((index - first) * ALIGN).first(ALIGN));
        let reads = launch_step(
            &mut self.recorder,
            pipelines,
            &StepBuffers {
                layer,
                step,
                width,
                head_dim: model.config.head_dim(),
                post,
                row,
                cache,
                visible: &visible,
                next_route: next_route.as_ref(),
                z: &buffers.z.first(width),
                queries: &buffers.queries.first(width),
                mixed: &buffers.mixed.first(width),
                attended: &buffers.attended.first(width),
                inner: &buffers
                    .inner
                    .first(layer.block.linear2.matrix.columns as usize),
                angles: match &model.positions {
                    GpuPositions::Rotary(angles) => Some(angles),
                    GpuPositions::Added(_) => None,
                },
            },
            params,
            grid,
        );
        self.reads[index][step] = reads;
    }

    /// Counts the launches of routed steps that were taken, now that they are known.
    pub(super) fn count_steps(&mut self) {
        let tokens = std::mem::take(&mut self.unread);
        if tokens == 0 || self.router.is_none() {
            return;
        }
        let (mut launches, mut bytes) = (0, 0);
        let layers = self.model.layers.iter().zip(&self.layers).zip(&self.reads);
        let recursive = layers.filter(|((layer, _), _)| layer.recurs);
        let mut left = self.steps.len();
        for (((_, pipelines), reads), steps) in recursive.zip(&self.steps) {
            let steps = usize::from(*steps);
            launches += pipelines.plain.grids().len() as u64 * steps as u64;
            bytes += reads.iter().take(steps).sum::<u64>();
            left -= 1;
            // The row is settled before the next router is asked.
            if steps > 0 && left > 0 {
                launches += 1;
                bytes += self.route_reads;
            }
        }
        // Where several tokens were recorded before one was read, the last one stands for all.
        self.recorder.counters.launches += tokens * launches;
        self.recorder.counters.bytes_read += tokens * bytes;
    }
}

/// What the launches of a step are given.
struct StepBuffers<'a> {
    layer: &'a GpuLayer,
    step: usize,
    /// Elements of a row.
    width: usize,
    head_dim: usize,
    post: bool,
    row: Row<'a>,
    cache: &'a Cache,
    visible: &'a Slice,
    /// The size of the launch that follows the step.
    next_route: Option<&'a Slice>,
    z: &'a Slice,
    queries: &'a Slice,
    mixed: &'a Slice,
    attended: &'a Slice,
    inner: &'a Slice,
    angles: Option<&'a Slice>,
}

/// Launches a step, and returns the bytes that it reads.
fn launch_step(
    recorder: &mut Recorder,
    pipelines: &StepPipelines,
    with: &StepBuffers<'_>,
    params: Params,
    grid: impl Fn(usize, &SizedPipeline) -> Grid,
) -> u64 {
    let StepBuffers {
        layer,
        step,
        width,
        head_dim,
        post,
        row: from,
        cache,
        visible,
        next_route,
        z,
        queries,
        mixed,
        attended,
        inner,
        angles,
    } = with;
    let block = &layer.block;
    // Of caches the positions so far.
    let positions = u64::from(params.first) + 1;
    let row = *width as u64 * 4;
    let mut partly = vec![
        (&cache.keys, positions * row),
        (&cache.values, positions * row),
        (*visible, positions * 4),
    ];
    // A cosine and a sine for every pair of a head, which all heads share.
    partly.extend(angles.map(|angles| (angles, *head_dim as u64 * 4)));
    let (mut operation, mut reads) = (0, 0);
    let mut launch = |kernel: &SizedPipeline, bound: &[&Slice]| {
        let grid = grid(operation, kernel);
        reads += recorder.launch(&kernel.pipeline, bound, params, grid, &partly);
        operation += 1;
    };
    let mut input = from.input;
    if let (Some(kernel), Some(projection)) = (&pipelines.projection, layer.projections.get(*step))
    {
        let mut bound = vec![from.input, &projection.matrix.slice];
        bound.extend(&projection.bias);
        bound.extend(from.owed);
        bound.push(z);
        launch(kernel, &bound);
        input = z;
    }
    let mut bound = vec![input, &block.qkv.matrix.slice];
    if !post {
        bound.push(&block.norm1);
    }
    bound.extend([*queries, &cache.keys, &cache.values]);
    bound.extend(*angles);
    launch(&pipelines.qkv, &bound);
    let mut bound = vec![*queries, &cache.keys, &cache.values, *visible, *mixed];
    bound.extend(*next_route);
    launch(&pipelines.attention, &bound);
    let mut bound = vec![*mixed, &block.output.matrix.slice];
    bound.extend(&block.output.bias);
    bound.push(from.input);
    bound.extend(from.owed);
    bound.push(attended);
    launch(&pipelines.output, &bound);
    let mut bound = vec![*attended, &block.linear1.matrix.slice];
    bound.extend(&block.linear1.bias);
    bound.push(if *post { &block.norm1 } else { &block.norm2 });
    bound.push(inner);
    launch(&pipelines.linear1, &bound);
    let mut bound = vec![*inner, &block.linear2.matrix.slice];
    bound.extend(&block.linear2.bias);
    bound.push(attended);
    if *post {
        bound.push(&block.norm1);
    }
    bound.push(from.output);
    launch(&pipelines.linear2, &bound);
    reads
}
