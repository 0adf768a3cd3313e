//! Many rows at once.

use std::sync::Arc;

use mor_config::Pooling;

use super::buffers::{BLOCK, Cache};
use super::decoder::GpuDecoder;
use crate::gpu::device::{Buffer, Grid, Numbers, Params, Pipeline, Recorder, Slice};
use crate::gpu::plan::{BlockOp, BlockPipelines, Mode, Product};
use crate::gpu::weights::{GpuLayer, GpuLinear, GpuPositions};
use crate::model::{NormOrder, most_steps};

/// How many rows a step has.
#[derive(Clone, Copy)]
enum Count {
    /// As many as the launches' numbers say.
    Known(u32),
    /// As many as were selected: sizes of dispatches and numbers of rows are on the GPU.
    Selected,
}

/// A step of some rows.
pub(super) struct RowsStep<'a> {
    pub(super) layer: usize,
    pub(super) step: usize,
    /// Rows of the residual stream, `[rows][stride]`.
    pub(super) input: &'a Slice,
    /// As `input`, or the same: it is written when nobody needs the input any more.
    pub(super) output: &'a Slice,
    /// How many steps each position can be seen in as a key.
    pub(super) visible: &'a Slice,
    pub(super) params: Params,
}

impl GpuDecoder {
    /// Takes the positions from `start` on through all layers, whose routers `decide` or follow their last decision.
    pub(super) fn read_rows(&mut self, start: usize, decide: bool) {
        let model = Arc::clone(&self.model);
        let len = self.history.len();
        let pooling = model.config.routing.pooling;
        let rows = self.params(len - start, start);
        self.embed(&self.hidden_row(start), rows);
        for (index, layer) in model.layers.iter().enumerate() {
            let routed = self.mode == Mode::OnDevice && layer.recurs;
            if routed && pooling != Pooling::Prefix {
                // The whole prompt is pooled before any of it takes a step.
                for (first, count) in blocks(start, len) {
                    self.pool(
                        index,
                        &self.hidden_row(first),
                        self.params(count, first),
                        decide,
                    );
                }
                let last = blocks(start, len)
                    .last()
                    .map_or(0, |(first, _)| len - 1 - first);
                self.classify(
                    index,
                    layer,
                    last,
                    1,
                    self.params(len - start, start),
                    decide,
                );
            }
            for (first, count) in blocks(start, len) {
                let params = self.params(count, first);
                if routed && pooling == Pooling::Prefix {
                    self.pool(index, &self.hidden_row(first), params, decide);
                    self.classify(index, layer, 0, count, params, decide);
                }
                let depth = most_steps(&model.config, layer.recurs, self.mode.fixed());
                let hidden = self.hidden_row(first);
                for step in 0..depth {
                    let params = Params {
                        step: step as u32,
                        ..params
                    };
                    match routed {
                        true => self.step_selected(index, step, &hidden, params),
                        false => {
                            let visible = self.buffers.visible.clone();
                            self.step_rows(&RowsStep {
                                layer: index,
                                step,
                                input: &hidden,
                                output: &hidden,
                                visible: &visible,
                                params,
                            });
                        }
                    }
                }
            }
        }
        let last = self.hidden_row(len - 1).first(self.width());
        self.recorder.copy(last, self.buffers.last.clone());
    }

    /// Adds rows to what a layer's router pools, and writes their means.
    pub(super) fn pool(&mut self, index: usize, rows: &Slice, params: Params, decide: bool) {
        let (Some(router), Some(sums)) = (&self.router, &self.buffers.layers[index].sums) else {
            return;
        };
        // Followers are not pooled.
        if !decide {
            return;
        }
        let mut bound = vec![rows];
        if self.model.config.routing.pooling != Pooling::Sequence {
            bound.push(&self.buffers.visible);
        }
        bound.extend([sums, &self.buffers.means]);
        let columns = self.width() as u32;
        let grid = Grid::Known(router.pool.grid(columns));
        self.recorder
            .launch_once(&router.pool, &bound, params, grid);
    }

    /// Asks the router of a layer about `rows` means from row `first` of them on, and writes down what it decides, or
    /// that its last decision holds.
    pub(super) fn classify(
        &mut self,
        index: usize,
        layer: &GpuLayer,
        first: usize,
        rows: usize,
        params: Params,
        decide: bool,
    ) {
        let width = self.width();
        let (Some(router), Some(weights)) = (&self.router, &layer.router) else {
            return;
        };
        let buffers = &self.buffers;
        if decide {
            let numbers = Params {
                rows: rows as u32,
                ..Params::default()
            };
            let mut launch = |product: &Product, linear: &GpuLinear, x: &Slice, y: &Slice| {
                let mut bound = vec![x, &linear.matrix.slice];
                bound.extend(&linear.bias);
                bound.push(y);
                let grid = Grid::Known(product.grid(rows as u32));
                self.recorder
                    .launch_once(&product.pipeline, &bound, numbers, grid);
            };
            let means = buffers.means.from(first * width);
            let mut input = &means;
            if let (Some(product), Some(linear)) = (&router.pooler, &weights.pooler) {
                launch(product, linear, input, &buffers.pooled);
                input = &buffers.pooled;
            }
            launch(
                &router.hidden,
                &weights.hidden,
                input,
                &buffers.router_hidden,
            );
            let hidden = &buffers.router_hidden;
            launch(&router.classes, &weights.classes, hidden, &buffers.scores);
        }
        let params = Params {
            layer: index as u32,
            decide,
            ..params
        };
        // One decision holds for all positions, the earlier ones included.
        let positions = match self.model.config.routing.pooling {
            Pooling::Prefix => params.rows,
            Pooling::Sequence | Pooling::Real => params.first + params.rows,
        };
        self.recorder.launch_once(
            &router.decide,
            &[
                &buffers.scores,
                &buffers.visible,
                &buffers.routing,
                &buffers.arguments,
            ],
            params,
            Grid::Known(router.decide.grid(positions)),
        );
    }

    /// One step of those of the rows of a block that take it: gather, run, scatter.
    fn step_selected(&mut self, index: usize, step: usize, hidden: &Slice, params: Params) {
        let (Some(router), Some(pipelines), Some(arguments)) = (
            &self.router,
            &self.pipelines.selection,
            &self.layers[index].arguments,
        ) else {
            return;
        };
        let context = router.decision.context as usize;
        let at = router.decision.header as usize + 2 * index * context;
        let depths = self.buffers.routing.from(at).first(context);
        let visible = self.buffers.routing.from(at + context);
        let buffers = &self.buffers;
        // This kernel's numbers are rows, first and step.
        let select = Params {
            keys: params.first,
            first: params.step,
            ..params
        };
        let grid = Grid::Known([1, 1, 1]);
        let bound = [&depths, &buffers.list, &buffers.counts];
        self.recorder
            .launch_once(&pipelines.select, &bound, select, grid.clone());
        let bound = [&buffers.counts, &buffers.sizes, &buffers.numbers];
        self.recorder.launch_once(arguments, &bound, params, grid);
        let (list, counts) = (&buffers.list, &buffers.counts);
        let moves = |op: BlockOp| Grid::Decided(buffers.sizes.buffer.clone(), op as u64 * 12);
        let bound = [hidden, list, counts, &buffers.gathered];
        self.recorder
            .launch_once(&pipelines.gather, &bound, params, moves(BlockOp::Move));
        let scatter = Arc::clone(&pipelines.scatter);
        let gathered = buffers.gathered.clone();
        self.run_rows(
            &RowsStep {
                layer: index,
                step,
                input: &gathered,
                output: &gathered,
                visible: &visible,
                params,
            },
            Count::Selected,
        );
        let buffers = &self.buffers;
        let bound = [&gathered, &buffers.list, &buffers.counts, hidden];
        let grid = Grid::Decided(buffers.sizes.buffer.clone(), BlockOp::Move as u64 * 12);
        self.recorder.launch_once(&scatter, &bound, params, grid);
    }

    /// One step of rows whose positions follow one another.
    pub(super) fn step_rows(&mut self, step: &RowsStep<'_>) {
        self.run_rows(step, Count::Known(step.params.rows));
    }

    fn run_rows(&mut self, at: &RowsStep<'_>, count: Count) {
        let model = Arc::clone(&self.model);
        let layer = &model.layers[at.layer];
        let post = model.norm_order == NormOrder::Post;
        let pipelines = &self.layers[at.layer].block;
        let buffers = &self.buffers;
        let mut launches = Launches {
            recorder: &mut self.recorder,
            pipelines,
            params: at.params,
            count,
            numbers: &buffers.numbers,
            sizes: &buffers.sizes.buffer,
        };
        let block = &layer.block;
        let norm = &self.pipelines.layer_norm;
        let mut input = at.input;
        if let (Some(product), Some(linear)) =
            (&pipelines.projection, layer.projections.get(at.step))
        {
            launches.product(
                BlockOp::Projection,
                product,
                linear,
                input,
                None,
                &buffers.z,
            );
            input = &buffers.z;
        } else {
            launches.norm(norm, input, &block.norm1, &buffers.z);
            input = &buffers.z;
        }
        launches.product(
            BlockOp::Qkv,
            &pipelines.qkv,
            &block.qkv,
            input,
            None,
            &buffers.qkv,
        );
        let cache = &buffers.layers[at.layer].caches[at.step];
        let angles = match &model.positions {
            GpuPositions::Rotary(angles) => Some(angles),
            GpuPositions::Added(_) => None,
        };
        launches.attend(
            &buffers.qkv,
            angles,
            &buffers.list,
            &buffers.queries,
            cache,
            at.visible,
            &buffers.mixed,
        );
        launches.product(
            BlockOp::Output,
            &pipelines.output,
            &block.output,
            &buffers.mixed,
            Some(at.input),
            &buffers.attended,
        );
        let norm1 = if post { &block.norm1 } else { &block.norm2 };
        launches.norm(norm, &buffers.attended, norm1, &buffers.normed);
        launches.product(
            BlockOp::Linear1,
            &pipelines.linear1,
            &block.linear1,
            &buffers.normed,
            None,
            &buffers.inner,
        );
        let (residual, output) = match post {
            true => (&buffers.normed, &buffers.z),
            false => (&buffers.attended, at.output),
        };
        launches.product(
            BlockOp::Linear2,
            &pipelines.linear2,
            &block.linear2,
            &buffers.inner,
            Some(residual),
            output,
        );
        if post {
            launches.norm(norm, &buffers.z, &block.norm2, at.output);
        }
    }
}

/// Launches the parts of a step of many rows.
struct Launches<'a> {
    recorder: &'a mut Recorder,
    pipelines: &'a BlockPipelines,
    params: Params,
    count: Count,
    numbers: &'a Slice,
    sizes: &'a Buffer,
}

impl Launches<'_> {
    fn launch(&mut self, op: BlockOp, pipeline: &Arc<Pipeline>, bound: &[&Slice]) {
        let (grid, numbers) = match self.count {
            Count::Known(rows) => {
                let [per_group, y, z] = self.pipelines.grids()[op as usize];
                let grid = Grid::Known([rows.div_ceil(per_group), y, z]);
                (grid, Numbers::Known(self.params))
            }
            Count::Selected => (
                Grid::Decided(self.sizes.clone(), op as u64 * 12),
                Numbers::Written(self.numbers),
            ),
        };
        self.recorder.launch_once(pipeline, bound, numbers, grid);
    }

    fn product(
        &mut self,
        op: BlockOp,
        product: &Product,
        linear: &GpuLinear,
        x: &Slice,
        residual: Option<&Slice>,
        y: &Slice,
    ) {
        let mut bound = vec![x, &linear.matrix.slice];
        bound.extend(&linear.bias);
        bound.extend(residual);
        bound.push(y);
        self.launch(op, &product.pipeline, &bound);
    }

    fn norm(&mut self, norm: &Arc<Pipeline>, x: &Slice, weights: &Slice, y: &Slice) {
        self.launch(BlockOp::Norm, norm, &[x, weights, y]);
    }

    #[allow(clippy::too_many_arguments, reason = "each is a buffer of the kernels")]
    fn attend(
        &mut self,
        qkv: &Slice,
        angles: Option<&Slice>,
        list: &Slice,
        queries: &Slice,
        cache: &Cache,
        visible: &Slice,
        mixed: &Slice,
    ) {
        let listed = matches!(self.count, Count::Selected).then_some(list);
        let mut bound = vec![qkv];
        bound.extend(angles);
        bound.extend(listed);
        bound.extend([queries, &cache.keys, &cache.values]);
        let rotary = Arc::clone(&self.pipelines.rotary);
        self.launch(BlockOp::Rotary, &rotary, &bound);
        let mut bound = vec![queries, &cache.keys, &cache.values, visible];
        bound.extend(listed);
        bound.push(mixed);
        let attention = Arc::clone(&self.pipelines.attention);
        self.launch(BlockOp::Attention, &attention, &bound);
    }
}

/// The positions from `start` to `end`, some at a time: the first, and their number.
pub(super) fn blocks(start: usize, end: usize) -> impl Iterator<Item = (usize, usize)> {
    (start..end)
        .step_by(BLOCK)
        .map(move |first| (first, BLOCK.min(end - first)))
}
