//! A model as the worker sees it.

use std::path::Path;
use std::sync::Arc;

use mor_config::{CONFIG_FILE, Depth, ModelConfig, WEIGHTS_FILE, Weights, check_tensors};
use mor_engine::gpu::{GpuDecoder, GpuModel};
use mor_engine::{
    ChatSession, Context, DecodeOptions, Decoder, GENERATION_FILE, GenerationConfig, LoadOptions,
    Model, Probe, WeightPrecision,
};
use mor_text::{Message, Tokenizer};
use serde::Deserialize;
use wasm_bindgen::prelude::*;

use crate::bench::{self, Bench};
use crate::failure::Failure;
use crate::gpu::MorGpu;
use crate::options::{self, Agreement, Info, Options, Prompt, Step};
use crate::{WeightsBuffer, to_js};

/// A loaded model with one conversation. What a new prompt has in common with the one before is not read again.
///
/// The bytes of the weights stay, so that the model can be put on the CPU or a GPU when one is first needed, and again
/// when one was lost; [`Self::stay_on_cpu`] lets go of them. Functions that run the model are `async`: one must have ended
/// before another function is called.
#[wasm_bindgen]
pub struct MorModel {
    config: ModelConfig,
    info: Info,
    /// Gone once the model stays on the CPU.
    weights: Option<Weights>,
    tokenizer: Arc<Tokenizer>,
    generation: GenerationConfig,
    /// Packed for the CPU, while that is where the model runs or where it is measured.
    cpu: Option<Arc<Model>>,
    gpu: Option<Arc<GpuModel>>,
    /// There once a device was chosen.
    session: Option<ChatSession>,
    device: Device,
    depth: Depth,
    /// Bytes of the running answer's text that the page has.
    sent: usize,
    bench: Option<Bench>,
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Cpu,
    Gpu,
}

impl Device {
    fn named(name: &str) -> Result<Self, Failure> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => Err(Failure::new(&format!(
                "no device is called `{name}`; there are cpu and gpu"
            ))),
        }
    }
}

#[wasm_bindgen]
impl MorModel {
    /// Checks the files of a model's folder, and takes the buffer over. `chat_template` is the folder's
    /// chat_template.jinja, where there is one. Before the model can run,
    /// [`Self::set_device`] must have put it somewhere.
    ///
    /// # Errors
    /// Names the file that is damaged or does not fit the others.
    #[wasm_bindgen(constructor)]
    pub fn new(
        config: &[u8],
        tokenizer: &[u8],
        tokenizer_config: &[u8],
        weights: WeightsBuffer,
        chat_template: Option<Vec<u8>>,
    ) -> Result<MorModel, Failure> {
        let config = ModelConfig::from_json(config, Path::new(CONFIG_FILE))?;
        let tokenizer =
            Tokenizer::with_template(tokenizer, tokenizer_config, chat_template.as_deref())?;
        let weights = Weights::from_bytes(weights.bytes, Path::new(WEIGHTS_FILE))?;
        check_tensors(&config, &weights)?;
        Ok(Self {
            info: Info::new(&config, weights.file_len()),
            config,
            weights: Some(weights),
            tokenizer: Arc::new(tokenizer),
            generation: GenerationConfig::default(),
            cpu: None,
            gpu: None,
            session: None,
            device: Device::Cpu,
            depth: Depth::Configured,
            sent: 0,
            bench: None,
        })
    }

    /// What the model is: parameters, sizes, depth.
    ///
    /// # Errors
    /// Never in practice: plain data converts.
    pub fn info(&self) -> Result<JsValue, Failure> {
        to_js(&self.info)
    }

    /// Takes the model's `generation_config.json`: answers end where it says, if it comes before the first [`Self::set_device`]. Gives
    /// the options that it says, of `{temperature, top_k, top_p, repetition_penalty, max_new_tokens}`.
    ///
    /// # Errors
    /// When it is malformed, or a value is out of range. The model is as before then.
    pub fn set_generation_config(&mut self, text: &[u8]) -> Result<JsValue, Failure> {
        self.generation = GenerationConfig::from_json(text, Path::new(GENERATION_FILE))?;
        to_js(&self.generation.defaults())
    }

    /// Puts the model on a GPU, with its own pipelines and weights, in the place of the one before. Nothing runs there
    /// until [`Self::set_device`] says so.
    ///
    /// # Errors
    /// The GPU's.
    pub async fn put_on_gpu(&mut self, gpu: &MorGpu) -> Result<(), Failure> {
        self.gpu = None;
        let (gpu, config) = (Arc::clone(&gpu.gpu), self.config.clone());
        let precision = WeightPrecision::AsStored;
        let model = GpuModel::from_parts(gpu, config, self.weights()?, precision).await?;
        self.gpu = Some(Arc::new(model));
        Ok(())
    }

    /// Lets go of the bytes of the weights, where there is no GPU to put them on: the CPU has them packed.
    ///
    /// # Errors
    /// When the model is not on the CPU.
    pub fn stay_on_cpu(&mut self) -> Result<(), Failure> {
        if self.cpu.is_none() {
            return Err(Failure::new("the model is not on the CPU"));
        }
        self.weights = None;
        Ok(())
    }

    /// Lets go of a GPU that is of no more use.
    pub fn leave_gpu(&mut self) {
        self.gpu = None;
    }

    /// Goes on with `cpu` or `gpu`; a running answer goes on where it was.
    ///
    /// # Errors
    /// When there is no memory for it, or [`Self::put_on_gpu`] did not come before. The old device stays then.
    pub async fn set_device(&mut self, name: &str) -> Result<(), Failure> {
        let device = Device::named(name)?;
        let context = self.context(device, self.depth).await?;
        match &mut self.session {
            Some(session) => session.replace_context(context),
            None => {
                let mut session = ChatSession::new(context, Arc::clone(&self.tokenizer))?;
                session.end_also_at(self.generation.end_ids());
                self.session = Some(session);
            }
        }
        self.device = device;
        if device == Device::Gpu && self.weights.is_some() {
            // The bytes can pack it again.
            self.cpu = None;
        }
        Ok(())
    }

    /// Has the GPU write one token, so that everything which is compiled late is compiled: for timing.
    ///
    /// # Errors
    /// The GPU's.
    pub async fn compile(&mut self) -> Result<(), Failure> {
        let context = self.context(Device::Gpu, Depth::Configured).await?;
        Bench::prefill(context, 1).await?;
        Ok(())
    }

    /// Compares the logits of a device with those in `probe.json`: `{agrees, difference, allowed}`.
    ///
    /// # Errors
    /// When the file is no probe of this model, or the device fails.
    pub async fn check_probe(&mut self, device: &str, probe: &[u8]) -> Result<JsValue, Failure> {
        let probe = Probe::from_json(probe)?;
        let outcome = match Device::named(device)? {
            Device::Cpu => {
                let mut context = self.context(Device::Cpu, Depth::Configured).await?;
                probe.check(&mut context).await?
            }
            Device::Gpu => probe.check_gpu(&self.on_gpu()?).await?,
        };
        to_js(&outcome)
    }

    /// Starts an answer to `messages` (JSON: `[{"role", "content"}]`, oldest first) and reads the prompt:
    /// `{prompt_tokens, dropped_messages}`.
    ///
    /// # Errors
    /// When the messages or options are malformed, the last message alone exceeds the context, or the device fails.
    pub async fn chat_start(&mut self, messages: &str, options: &str) -> Result<JsValue, Failure> {
        let messages: Vec<Message> = parse("messages", messages)?;
        let options: Options = parse("options", options)?;
        let depth = options::depth(options.depth);
        if depth != self.depth {
            let context = self.context(self.device, depth).await?;
            self.session()?.replace_context(context);
            self.depth = depth;
        }
        self.sent = 0;
        let session = self.session()?;
        session.set_messages(messages);
        let started = session.answer(options.into()).await?;
        to_js(&Prompt {
            prompt_tokens: started.prompt_tokens,
            dropped_messages: started.dropped_messages,
        })
    }

    /// Writes one token: `{text, steps, probability, end}`, where `end` is null, or says why the answer is over
    /// (`stop`, `length`, `context`) after its last token.
    ///
    /// # Errors
    /// The device's. The answer goes on when this is called again, after [`Self::set_device`] if need be.
    pub async fn chat_next(&mut self) -> Result<JsValue, Failure> {
        let sent = self.sent;
        let session = self.session()?;
        let step = match session.next_piece().await? {
            Some(piece) => {
                self.sent += piece.text.len();
                Step {
                    text: piece.text,
                    steps: piece.steps,
                    probability: piece.probability,
                    end: None,
                }
            }
            None => {
                let reply = session.stop();
                Step::end(reply.text.get(sent..).unwrap_or(""), reply.finish)
            }
        };
        to_js(&step)
    }

    /// Gives an unfinished answer up.
    pub fn chat_stop(&mut self) {
        if let Some(session) = &mut self.session {
            session.stop();
        }
    }

    /// Reads a made-up prompt of `tokens` tokens on `device` and chooses the first token after it, for timing.
    ///
    /// # Errors
    /// When the depth or the prompt exceeds the model's, or the device fails.
    pub async fn bench_prefill(
        &mut self,
        device: &str,
        tokens: usize,
        depth: Option<usize>,
    ) -> Result<(), Failure> {
        self.bench = None;
        let device = Device::named(device)?;
        let context = self.context(device, options::depth(depth)).await?;
        self.bench = Some(Bench::prefill(context, tokens).await?);
        Ok(())
    }

    /// Writes `tokens` tokens after [`Self::bench_prefill`], for timing.
    ///
    /// # Errors
    /// When there is no prompt, the context is full, or the device fails.
    pub async fn bench_decode(&mut self, tokens: usize) -> Result<(), Failure> {
        let bench = self
            .bench
            .as_mut()
            .ok_or_else(|| Failure::new("bench_decode needs bench_prefill first"))?;
        Ok(bench.decode(tokens).await?)
    }

    /// Lets go of what [`Self::bench_prefill`] took.
    pub fn bench_end(&mut self) {
        self.bench = None;
    }

    /// How often the GPU finds the token likeliest that the CPU does, in an answer of `tokens` tokens to `question` that
    /// the CPU writes: `{equal, tokens}`.
    ///
    /// # Errors
    /// When the question exceeds the context, or the GPU fails.
    pub async fn agreement(&mut self, question: &str, tokens: usize) -> Result<JsValue, Failure> {
        let message = Message::new(mor_text::Role::User, question);
        let prompt = self.tokenizer.encode_chat(&[message], true)?;
        let mut cpu = self.context(Device::Cpu, Depth::Configured).await?;
        let mut gpu = self.context(Device::Gpu, Depth::Configured).await?;
        let (equal, tokens) = bench::agreement(&mut cpu, &mut gpu, &prompt, tokens).await?;
        to_js(&Agreement { equal, tokens })
    }

    /// An empty context on a device, for which the model is prepared if it is not yet.
    async fn context(&mut self, device: Device, depth: Depth) -> Result<Context, Failure> {
        let options = DecodeOptions {
            depth,
            ..DecodeOptions::default()
        };
        Ok(match device {
            Device::Cpu => Decoder::new(self.on_cpu()?, options)?.into(),
            Device::Gpu => GpuDecoder::new(self.on_gpu()?, options).await?.into(),
        })
    }

    fn on_gpu(&self) -> Result<Arc<GpuModel>, Failure> {
        self.gpu
            .clone()
            .ok_or_else(|| Failure::new("the model is not on a GPU"))
    }

    fn on_cpu(&mut self) -> Result<Arc<Model>, Failure> {
        if let Some(model) = &self.cpu {
            return Ok(Arc::clone(model));
        }
        let options = LoadOptions::default();
        let model = Model::from_parts_with(self.config.clone(), self.weights()?, options)?;
        let model = Arc::new(model);
        self.cpu = Some(Arc::clone(&model));
        Ok(model)
    }

    fn weights(&self) -> Result<&Weights, Failure> {
        self.weights
            .as_ref()
            .ok_or_else(|| Failure::new("the model has been told to stay on the CPU"))
    }

    fn session(&mut self) -> Result<&mut ChatSession, Failure> {
        self.session
            .as_mut()
            .ok_or_else(|| Failure::new("the model runs nowhere yet: set_device comes first"))
    }
}

fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::new(&format!("malformed {what} from the page: {error}")))
}
