//! What one step of a decoded token launches.

use super::bind::Binder;
use super::buffers::Cache;
use crate::gpu::device::{ALIGN, Grid, Launch, Reads, Recorder, Slice, stride};
use crate::gpu::plan::{SizedPipeline, StepPipelines};
use crate::gpu::weights::{GpuLayer, GpuPositions};
use crate::model::NormOrder;

/// Where the row of a step is, and how it is read.
struct Row<'a> {
    input: &'a Slice,
    /// The norm that is still owed to it.
    owed: Option<&'a Slice>,
    output: &'a Slice,
}

impl Binder<'_> {
    /// One step of a layer on the row: from `x`, or from `update` where a norm is owed to it.
    pub(super) fn step(
        &mut self,
        index: usize,
        step: usize,
        owed: Option<&Slice>,
        routed: bool,
    ) -> Vec<Launch> {
        let (model, buffers) = (self.model, self.buffers);
        let layer = &model.layers[index];
        let post = model.norm_order == NormOrder::Post;
        let width = stride(model.config.hidden_size);
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
        let decision = self.router.filter(|_| routed);
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
        step_launches(
            self.recorder,
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
            grid,
        )
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

/// The launches of a step, in order.
fn step_launches(
    recorder: &mut Recorder,
    pipelines: &StepPipelines,
    with: &StepBuffers<'_>,
    grid: impl Fn(usize, &SizedPipeline) -> Grid,
) -> Vec<Launch> {
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
    let row = *width as u64 * 4;
    // Of caches the positions so far.
    let mut partly = vec![
        (&cache.keys, Reads::per_position(row)),
        (&cache.values, Reads::per_position(row)),
        (*visible, Reads::per_position(4)),
    ];
    // A cosine and a sine for every pair of a head, which all heads share.
    partly.extend(angles.map(|angles| (angles, Reads::fixed(*head_dim as u64 * 4))));
    let mut launches = Vec::new();
    let mut launch = |kernel: &SizedPipeline, bound: &[&Slice]| {
        let grid = grid(launches.len(), kernel);
        launches.push(recorder.prepare(&kernel.pipeline, bound, None, grid, &partly));
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
    launches
}
