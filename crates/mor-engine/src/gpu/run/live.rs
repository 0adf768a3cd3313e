//! Pooled routers that decide anew with every token, as the originals do.
//!
//! A new token can change the depth of every earlier position, as the CPU's routing by sequence tells. Here
//! prompts are read, whose positions may have to catch up: every layer's decision is read back. A single token mostly
//! changes no depth, so it is decoded as if it did not, in [`super::decode`], and what comes here is what did. Where
//! nothing but the depth of the last layer was wrong, positions catch up on the steps they lack; else all is read again.

use std::sync::Arc;

use super::decoder::GpuDecoder;
use super::prefill::{RowsStep, blocks};
use crate::Result;
use crate::gpu::device::{Params, Slice};
use crate::gpu::plan::Mode;
use crate::model::NormOrder;

impl GpuDecoder {
    /// Takes the positions from `start` on through all layers, and earlier ones through those whose input or depth they
    /// change.
    pub(super) async fn live(&mut self, mut start: usize) -> Result<()> {
        let model = Arc::clone(&self.model);
        let len = self.history.len();
        self.unchecked = false;
        self.stale = false;
        let rows = self.params(len - start, start);
        self.embed(&self.hidden_row(start), rows);
        for (index, layer) in model.layers.iter().enumerate() {
            if !layer.recurs {
                let hidden = self.buffers.hidden.clone();
                self.steps_between(index, 0, &hidden, &hidden, start);
                continue;
            }
            let states = self.buffers.layers[index].states.clone();
            self.copy_between(&self.buffers.hidden.clone(), &states[0], start);
            for done in &mut self.done[index] {
                *done = start.min(*done);
            }
            let steps = self.decided_depth(index, start).await?;
            start = self.catch_up(index, steps, start);
        }
        self.settle_depths();
        Ok(())
    }

    /// After a live router changed its mind at the last token, which was decoded as if it had not: brings all positions to
    /// the depths that it decided.
    pub(super) async fn read_again(&mut self) -> Result<()> {
        match self.resumes_at() {
            // The token's way to this layer stands.
            Some(index) => {
                let model = Arc::clone(&self.model);
                let len = self.history.len();
                let steps = self.steps.first().map_or(0, |steps| usize::from(*steps));
                let all = self.params(len, 0);
                self.classify(index, &model.layers[index], 0, 1, all, false);
                self.catch_up(index, steps.min(model.config.routing.max_steps), len);
                self.settle_depths();
            }
            None => self.live(0).await?,
        }
        self.settled = true;
        Ok(())
    }

    /// The recursive layer, if it is the only one, the last, and takes its input as it is: a change of its depth then
    /// changes no other layer, and the inputs of decoded tokens are there.
    pub(super) fn resumes_at(&self) -> Option<usize> {
        let model = &self.model;
        let (last, before) = model.layers.split_last()?;
        let alone = last.recurs && before.iter().all(|layer| !layer.recurs);
        (self.mode == Mode::Live && alone && model.norm_order == NormOrder::Pre)
            .then_some(before.len())
    }

    /// Has all positions take the steps of a layer that they lack up to a depth. Returns the first position whose result
    /// changed, when those from `start` on are new.
    fn catch_up(&mut self, index: usize, steps: usize, mut start: usize) -> usize {
        let len = self.history.len();
        let states = self.buffers.layers[index].states.clone();
        for step in 0..steps {
            let first = self.done[index][step];
            self.steps_between(index, step, &states[step], &states[step + 1], first);
            self.done[index][step] = len;
        }
        if steps != self.depths[index] {
            start = 0;
        }
        self.depths[index] = steps;
        if start < len {
            self.copy_between(&states[steps], &self.buffers.hidden.clone(), start);
        }
        start
    }

    /// Takes the layers' depths as the steps of the last token, whose row is in place.
    fn settle_depths(&mut self) {
        let model = Arc::clone(&self.model);
        let recursive = model.layers.iter().zip(&self.depths);
        let recursive = recursive.filter(|(layer, _)| layer.recurs);
        let steps: Vec<u8> = recursive.map(|(_, steps)| *steps as u8).collect();
        self.steps.copy_from_slice(&steps);
        let last = self.hidden_row(self.history.len() - 1).first(self.width());
        self.recorder.copy(last, self.buffers.last.clone());
    }

    /// What the router of a layer makes of all positions, those from `start` on being new.
    async fn decided_depth(&mut self, index: usize, start: usize) -> Result<usize> {
        let model = Arc::clone(&self.model);
        let len = self.history.len();
        let input = self.buffers.layers[index].states[0].clone();
        let mut last = 0;
        for (first, count) in blocks(start, len) {
            let rows = input.from(first * self.width());
            self.pool(index, &rows, self.params(count, first), true);
            last = len - 1 - first;
        }
        let params = self.params(len - start, start);
        self.classify(
            index,
            &model.layers[index],
            last.min(len - 1),
            1,
            params,
            true,
        );
        let routing = self.read_routing().await?;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&routing);
        let steps = words.get(1 + index).map_or(0, |steps| *steps as usize);
        Ok(steps.min(model.config.routing.max_steps))
    }

    /// One step of the positions from `first` on, from one buffer of states to another, or in place.
    fn steps_between(&mut self, index: usize, step: usize, from: &Slice, to: &Slice, first: usize) {
        let visible = self.buffers.visible.clone();
        let width = self.width();
        for (first, count) in blocks(first, self.history.len()) {
            let params = Params {
                step: step as u32,
                ..self.params(count, first)
            };
            self.step_rows(&RowsStep {
                layer: index,
                step,
                input: &from.from(first * width),
                output: &to.from(first * width),
                visible: &visible,
                params,
            });
        }
    }

    /// Copies the rows from position `first` on.
    fn copy_between(&mut self, from: &Slice, to: &Slice, first: usize) {
        let width = self.width();
        let len = (self.history.len() - first) * width;
        let rows = |of: &Slice| of.from(first * width).first(len);
        self.recorder.copy(rows(from), rows(to));
    }
}
