//! One token.

use super::bind::{Binder, Part};
use super::decoder::GpuDecoder;
use crate::gpu::device::{Params, Slice};

impl GpuDecoder {
    /// Takes the token at `position` through all layers, whose routers `decide` or follow their last decision.
    pub(super) fn decode(&mut self, position: usize, decide: bool) {
        let token = self.params(1, position);
        let launches = match self.token_launches[usize::from(decide)].take() {
            Some(launches) => launches,
            None => {
                let kept = self.resumes_at();
                self.binder().token(decide, kept)
            }
        };
        for part in &launches.parts {
            match part {
                Part::Launch {
                    launch,
                    layer,
                    step,
                } => {
                    let (layer, step) = (*layer, *step);
                    let params = Params {
                        layer,
                        step,
                        ..token
                    };
                    self.recorder.launch(launch, params);
                }
                Part::KeepInput(layer) => self.keep_input(*layer, position),
            }
        }
        self.token_launches[usize::from(decide)] = Some(launches);
        self.unread += 1;
        self.decoded = (decide, position as u64 + 1);
    }

    /// Launches the embedding of the tokens that `params` names, into rows of `to`.
    pub(super) fn embed(&mut self, to: &Slice, params: Params) {
        let launch = self.binder().embed(to, params.rows);
        self.recorder.launch(&launch, params);
    }

    fn binder(&mut self) -> Binder<'_> {
        Binder {
            model: &self.model,
            mode: self.mode,
            pipelines: &self.pipelines,
            layers: &self.layers,
            router: self.router.as_ref(),
            finish: &self.finish,
            buffers: &self.buffers,
            recorder: &mut self.recorder,
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

    /// Counts the launches of routed steps that were taken, now that they are known.
    pub(super) fn count_steps(&mut self) {
        let tokens = std::mem::take(&mut self.unread);
        if tokens == 0 || self.router.is_none() {
            return;
        }
        // Where several tokens were recorded before one was read, the last one stands for all.
        let (decide, positions) = self.decoded;
        let Some(token) = &self.token_launches[usize::from(decide)] else {
            return;
        };
        let (mut launches, mut bytes) = (0, 0);
        let layers = self.model.layers.iter().zip(&self.layers);
        let layers = layers.zip(&token.step_reads);
        let recursive = layers.filter(|((layer, _), _)| layer.recurs);
        let mut left = self.steps.len();
        for (((_, pipelines), reads), steps) in recursive.zip(&self.steps) {
            let steps = usize::from(*steps);
            launches += pipelines.plain.grids().len() as u64 * steps as u64;
            let taken = reads.iter().take(steps);
            bytes += taken.map(|reads| reads.of(positions)).sum::<u64>();
            left -= 1;
            // The row is settled before the next router is asked.
            if steps > 0 && left > 0 {
                launches += 1;
                bytes += token.route_reads.of(positions);
            }
        }
        self.recorder.counters.launches += tokens * launches;
        self.recorder.counters.bytes_read += tokens * bytes;
    }
}
