//! Logits, and the choice of the next token.

use super::buffer::Slice;
use super::buffers::{CHOICE_BYTES, header};
use super::decoder::GpuDecoder;
use super::record::{Grid, Params};
use crate::{Choice, EngineError, Result, SamplingOptions};

impl GpuDecoder {
    /// Logits after the last token, `[vocab_size]`: a submit and a read-back.
    ///
    /// # Errors
    /// [`EngineError::EmptyPrompt`] while the context is empty, or the device's.
    pub async fn logits(&mut self) -> Result<Vec<f32>> {
        let last = self
            .ids
            .len()
            .checked_sub(1)
            .ok_or(EngineError::EmptyPrompt)?;
        self.logits_at(last).await
    }

    /// Logits after the token at `position`, as [`crate::Decoder::logits_at`].
    ///
    /// # Errors
    /// [`EngineError::Option`] when there is no such position, or the device's.
    pub async fn logits_at(&mut self, position: usize) -> Result<Vec<f32>> {
        if position >= self.ids.len() {
            return Err(EngineError::Option {
                option: "position",
                value: position.to_string(),
                allowed: "below the number of tokens",
            });
        }
        let row = self.hidden_row(position).first(self.width());
        self.recorder.copy(row, self.buffers.last.clone());
        // The row of the last token may be another one.
        self.settled = position + 1 == self.ids.len();
        self.score();
        let vocab = self.model.config.vocab_size;
        let bytes = vocab as u64 * 4;
        let header = header(self.model.layers.len());
        let staging = self.buffers.logits_staging.clone();
        let to = |offset: u64, size: u64| Slice {
            buffer: staging.clone(),
            offset,
            size,
        };
        let (logits, routing) = (&self.buffers.logits, &self.buffers.routing);
        self.recorder.copy(logits.first(vocab), to(0, bytes));
        self.recorder
            .copy(routing.first(header), to(bytes, header as u64 * 4));
        let read = self.recorder.read(&staging).await?;
        let (logits, routing) = read.split_at(bytes as usize);
        match self.know_steps(routing) {
            true => Ok(bytemuck::pod_collect_to_vec(logits)),
            false => {
                self.read_again().await?;
                Box::pin(self.logits_at(position)).await
            }
        }
    }

    /// Chooses the token after the last one on the GPU, as [`crate::Sampler`] does on the CPU, where `uniform` in
    /// `[0, 1)` decides a draw: together with the tokens recorded before it one submit and one read-back.
    ///
    /// # Errors
    /// [`EngineError::Option`] when an option is out of range, [`EngineError::EmptyPrompt`] while the context is empty,
    /// or the device's.
    pub async fn sample(&mut self, options: &SamplingOptions, uniform: f32) -> Result<Choice> {
        options.validate()?;
        let last = self
            .ids
            .len()
            .checked_sub(1)
            .ok_or(EngineError::EmptyPrompt)?;
        if !self.settled {
            let row = self.hidden_row(last).first(self.width());
            self.recorder.copy(row, self.buffers.last.clone());
            self.settled = true;
        }
        let values = [
            options.temperature,
            options.top_k as f32,
            options.top_p,
            options.repetition_penalty,
            uniform,
        ];
        let bytes = bytemuck::cast_slice(&values);
        let queue = &self.model.gpu.queue;
        queue.write_buffer(&self.buffers.options.buffer, 0, bytes);
        self.score();
        let params = self.params(1, last);
        let buffers = &self.buffers;
        let sampler = &self.kernels.sample;
        self.recorder.launch(
            sampler,
            &[
                &buffers.logits,
                &buffers.weights,
                &buffers.ids,
                &buffers.choice,
                &buffers.options,
            ],
            params,
            Grid::Known(sampler.grid(1)),
            &[(&buffers.ids, (last as u64 + 1) * 4)],
        );
        let header = header(self.model.layers.len());
        let to = |offset: u64, size: u64| Slice {
            buffer: buffers.staging.clone(),
            offset,
            size,
        };
        self.recorder
            .copy(buffers.choice.first(64), to(0, CHOICE_BYTES));
        self.recorder.copy(
            buffers.routing.first(header),
            to(CHOICE_BYTES, header as u64 * 4),
        );
        let staging = buffers.staging.clone();
        let read = self.recorder.read(&staging).await?;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&read[..8]);
        if !self.know_steps(&read[CHOICE_BYTES as usize..]) {
            self.read_again().await?;
            return Box::pin(self.sample(options, uniform)).await;
        }
        Ok(Choice {
            id: words[0],
            probability: f32::from_bits(words[1]),
        })
    }

    /// Launches the output head on `last`.
    fn score(&mut self) {
        let (model, buffers, head) = (&self.model, &self.buffers, &self.kernels.head);
        self.recorder.launch(
            &head.pipeline,
            &[
                &buffers.last,
                &model.head.slice,
                &model.final_norm,
                &buffers.logits,
            ],
            Params::default(),
            Grid::Known(head.grid),
            &[],
        );
    }
}
