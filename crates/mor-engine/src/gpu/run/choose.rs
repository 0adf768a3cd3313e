//! Logits, and the choice of the next token.

use super::buffers::CHOICE_BYTES;
use super::decoder::GpuDecoder;
use crate::gpu::device::{Params, Slice};
use crate::gpu::plan::header;
use crate::{Choice, Result, SamplingOptions};

impl GpuDecoder {
    /// Logits after the last token, `[vocab_size]`: a submit and a read-back.
    ///
    /// # Errors
    /// [`crate::EngineError::EmptyPrompt`] while the context is empty, or the device's.
    pub async fn logits(&mut self) -> Result<Vec<f32>> {
        let last = self.history.last()?;
        self.logits_at(last).await
    }

    /// Logits after the token at `position`, as [`crate::Decoder::logits_at`].
    ///
    /// # Errors
    /// [`crate::EngineError::Option`] when there is no such position, or the device's.
    pub async fn logits_at(&mut self, position: usize) -> Result<Vec<f32>> {
        self.history.check_position(position)?;
        let row = self.hidden_row(position).first(self.width());
        self.recorder.copy(row, self.buffers.last.clone());
        // The row of the last token may be another one.
        self.settled = position + 1 == self.history.len();
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
    /// [`crate::EngineError::Option`] when an option is out of range, [`crate::EngineError::EmptyPrompt`] while the context
    /// is empty, or the device's.
    pub async fn sample(&mut self, options: &SamplingOptions, uniform: f32) -> Result<Choice> {
        options.validate()?;
        let last = self.history.last()?;
        if !self.settled {
            let row = self.hidden_row(last).first(self.width());
            self.recorder.copy(row, self.buffers.last.clone());
            self.settled = true;
        }
        let values = kernel_options(options, uniform);
        let bytes = bytemuck::cast_slice(&values);
        let queue = &self.model.gpu.queue;
        queue.write_buffer(&self.buffers.options.buffer, 0, bytes);
        self.score();
        let params = self.params(1, last);
        self.recorder.launch(&self.choosing.sample, params);
        let buffers = &self.buffers;
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
        if !self.know_steps(&read[CHOICE_BYTES as usize..]) {
            self.read_again().await?;
            return Box::pin(self.sample(options, uniform)).await;
        }
        Ok(kernel_choice(&read))
    }

    /// Launches the output head on `last`.
    fn score(&mut self) {
        self.recorder
            .launch(&self.choosing.score, Params::default());
    }
}

/// The `options` of `shaders/sample.wgsl`.
fn kernel_options(options: &SamplingOptions, uniform: f32) -> [f32; 5] {
    [
        options.temperature,
        options.top_k as f32,
        options.top_p,
        options.repetition_penalty,
        uniform,
    ]
}

/// Its `choice`.
fn kernel_choice(bytes: &[u8]) -> Choice {
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes[..8]);
    Choice {
        id: words[0],
        probability: f32::from_bits(words[1]),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mor_config::Limits;
    use mor_shaders::{Sample, Variant};
    use pollster::block_on;

    use super::*;
    use crate::cpu::Kernels;
    use crate::gpu::device::{Buffer, Gpu, Grid, Pipeline, Recorder};
    use crate::{Isa, Sampler};

    /// The kernel alone, so that logits can be anything.
    struct OnGpu {
        gpu: Arc<Gpu>,
        recorder: Recorder,
        pipeline: Arc<Pipeline>,
        /// Logits, weights, ids, choice and options.
        buffers: [Slice; 5],
        staging: Buffer,
    }

    impl OnGpu {
        fn new(variant: Variant, vocab: usize) -> Self {
            let gpu = block_on(Gpu::open_with(Some(variant))).expect("a Vulkan driver");
            let shader = Sample {
                vocab: vocab as u32,
            };
            let sizes = [vocab, vocab + Sample::SCRATCH as usize, 64, 64, 64];
            let readable = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            Self {
                recorder: Recorder::new(Arc::clone(&gpu)).expect("fits"),
                pipeline: gpu.pipeline(shader.shader(variant)),
                buffers: sizes.map(|size| gpu.storage("a test", size).expect("fits")),
                staging: gpu.buffer("a test", 256, readable).expect("fits"),
                gpu,
            }
        }

        fn sample(
            &mut self,
            logits: &[f32],
            context: &[u32],
            (options, uniform): (SamplingOptions, f32),
        ) -> Choice {
            let write = |at: usize, bytes: &[u8]| {
                let buffer = &self.buffers[at].buffer;
                self.gpu.queue.write_buffer(buffer, 0, bytes);
            };
            write(0, bytemuck::cast_slice(logits));
            write(2, bytemuck::cast_slice(context));
            write(4, bytemuck::cast_slice(&kernel_options(&options, uniform)));
            let params = Params {
                first: context.len() as u32 - 1,
                ..Params::default()
            };
            let grid = Grid::Known(self.pipeline.grid(1));
            let bound = self.buffers.each_ref();
            self.recorder
                .launch_once(&self.pipeline, &bound, params, grid);
            let to = Slice {
                buffer: self.staging.clone(),
                offset: 0,
                size: 256,
            };
            self.recorder.copy(self.buffers[3].first(64), to);
            kernel_choice(&block_on(self.recorder.read(&self.staging)).expect("reads"))
        }
    }

    /// Draws after the same logits on both devices. A number that falls on the border between two tokens may go to
    /// one or the other by rounding.
    fn compare(gpu: &mut OnGpu, logits: &[f32], options: SamplingOptions, draws: usize) {
        let context = [3, 1, 2, 1];
        let kernels = Kernels::new(Isa::best());
        let sampler = Sampler::with_kernels(kernels, logits.len(), options);
        let mut sampler = sampler.expect("in range");
        let mut same = 0;
        for _ in 0..draws {
            let actual = gpu.sample(logits, &context, sampler.draw());
            let expected = sampler.sample(logits, &context);
            let (a, e) = (actual.probability, expected.probability);
            if actual.id == expected.id {
                same += 1;
                let alike = (a - e).abs() <= 1e-4 * e;
                assert!(alike, "{a}, not {e}: {options:?}");
            }
        }
        let len = logits.len();
        assert!(same + 1 >= draws, "{same} of {draws}: {len}, {options:?}");
    }

    fn random(len: usize) -> Vec<f32> {
        let mut state = 9_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 20) as f32 - 8.0
        };
        (0..len).map(next).collect()
    }

    fn ways() -> Vec<SamplingOptions> {
        let base = SamplingOptions {
            temperature: 0.8,
            seed: 4,
            ..SamplingOptions::default()
        };
        let mut ways = vec![
            SamplingOptions {
                repetition_penalty: 1.5,
                ..SamplingOptions::default()
            },
            SamplingOptions {
                top_k: 40,
                top_p: 0.8,
                repetition_penalty: 1.5,
                ..base
            },
        ];
        for top_k in [0, 1, 2, 5, 2_000_000] {
            for top_p in [1.0, 0.9, 0.3] {
                ways.push(SamplingOptions {
                    top_k,
                    top_p,
                    ..base
                });
            }
        }
        ways
    }

    #[test]
    fn every_kernel_draws_as_the_processor() {
        for variant in Variant::ALL {
            for vocab in [5, 97, 1030] {
                let mut gpu = OnGpu::new(variant, vocab);
                let ties: Vec<f32> = (0..vocab).map(|id| (id % 4) as f32).collect();
                let mut masked = random(vocab);
                masked[3..].fill(f32::NEG_INFINITY);
                for logits in [random(vocab), ties, masked] {
                    for options in ways() {
                        compare(&mut gpu, &logits, options, 6);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_is_not_the_likeliest() {
        let mut logits = random(97);
        logits[5] = f32::NAN;
        for variant in Variant::ALL {
            let mut gpu = OnGpu::new(variant, logits.len());
            let greedy = (SamplingOptions::default(), 0.0);
            let likeliest =
                (0..97).max_by(|a, b| logits[*a].max(-9.0).total_cmp(&logits[*b].max(-9.0)));
            let id = gpu.sample(&logits, &[1], greedy).id;
            assert_eq!(Some(id as usize), likeliest);
        }
    }

    /// Some drivers end an invocation's loops after 65,535 rounds in all.
    #[test]
    fn the_largest_vocabulary_is_read_to_its_end() {
        let logits = random(Limits::VOCAB);
        for variant in Variant::ALL {
            let mut gpu = OnGpu::new(variant, Limits::VOCAB);
            let options = SamplingOptions {
                // Of few tokens, so that sums of many small numbers do not matter.
                temperature: 0.001,
                top_k: 1000,
                top_p: 0.9,
                ..SamplingOptions::default()
            };
            compare(&mut gpu, &logits, options, 3);
        }
    }
}
