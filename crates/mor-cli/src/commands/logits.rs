//! `mor logits`: a model's raw output, for comparison with other programs.

use std::path::{Path, PathBuf};

#[cfg(feature = "train")]
use anyhow::anyhow;
use anyhow::{Context, Result, bail};
use mor_config::{Architecture, HaltedRows, ModelConfig, Pooling, Weights};
use mor_engine::{Context as Engine, Decoder, EngineError, Routing};
use mor_files::PathCheck;
#[cfg(feature = "gpu")]
use pollster::block_on;
use safetensors::{Dtype, tensor::TensorView};

use super::MODEL_FILES;
#[cfg(feature = "train")]
use super::device::Device;
use super::inference::Execution;
#[cfg(feature = "train")]
use super::training_device::{self, no_advice};

/// Write the logits of every position of every row.
///
/// The input is a safetensors file with `input_ids` (i64 [batch, seq]) and, optionally, `attention_mask` (i64, 1 for
/// tokens that later ones may see). The output has `logits` (f32 [batch, seq, vocab]) and `steps`: i64 [layers, batch],
/// or [batch] for a conversational model, or [layers, batch, seq] where each position has a depth of its own.
///
/// The engine runs each row alone; Burn runs them as one batch, which matters where config.json says
/// `halted_rows: renormalize`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor logits --model DIR --input ids.safetensors --output logits.safetensors"
)]
pub(crate) struct Args {
    /// Model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// File with the ids.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// What computes them.
    #[arg(long, value_enum, default_value_t = Runtime::Engine)]
    runtime: Runtime,
    #[command(flatten)]
    execution: Execution,
}

/// The two executions of a model.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq)]
enum Runtime {
    /// What chatting uses.
    Engine,
    /// What training uses; always in f32, on threads of its own choice. With auto, on the CPU.
    #[cfg(feature = "train")]
    Burn,
}

/// The rows to run.
struct Input {
    rows: usize,
    cols: usize,
    /// `[rows, cols]`.
    ids: Vec<u32>,
    /// `[rows, cols]`, true for tokens that later ones may see; left to the ids if absent.
    mask: Option<Vec<bool>>,
}

/// What came out.
struct Output {
    /// `[rows, cols, vocab]`.
    logits: Vec<f32>,
    /// Row-major numbers of steps.
    steps: Vec<i64>,
    steps_shape: Vec<usize>,
}

/// Runs the rows and writes the file.
pub(crate) fn run(args: Args) -> Result<()> {
    PathCheck::new()
        .reads_files("--model", &args.model, MODEL_FILES)
        .reads("--input", &args.input)
        .writes("--output", &args.output)
        .check()?;
    let input = read(&args.input)?;
    let output = match args.runtime {
        Runtime::Engine => run_engine(&args, &input)?,
        #[cfg(feature = "train")]
        Runtime::Burn => run_burn(&args, &input)?,
    };
    let vocab_size = output.logits.len() / input.ids.len();
    let logits: Vec<u8> = output.logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let steps: Vec<u8> = output.steps.iter().flat_map(|x| x.to_le_bytes()).collect();
    let shape = vec![input.rows, input.cols, vocab_size];
    write(
        &args.output,
        [
            ("logits", Dtype::F32, shape, &logits),
            ("steps", Dtype::I64, output.steps_shape, &steps),
        ],
    )
}

fn read(path: &Path) -> Result<Input> {
    let input = Weights::open(path)?;
    let [rows, cols] = *input.shape("input_ids")? else {
        bail!("{}: `input_ids` is not [batch, seq]", path.display());
    };
    let ids = input.to_i64("input_ids")?;
    let ids: Result<Vec<u32>, _> = ids.into_iter().map(u32::try_from).collect();
    let ids = ids.with_context(|| format!("{}: `input_ids`", path.display()))?;
    if ids.is_empty() {
        bail!("{}: `input_ids` is empty", path.display());
    }
    let mask = mask(&input, rows * cols)?;
    Ok(Input {
        rows,
        cols,
        ids,
        mask,
    })
}

/// `[layers, batch]`, without the layers for a model which has one routed depth.
fn steps_shape(config: &ModelConfig, rows: usize) -> Vec<usize> {
    match config.architecture {
        Architecture::Technical => vec![config.num_hidden_layers, rows],
        Architecture::Conversational | Architecture::Recursive => vec![rows],
    }
}

fn run_engine(args: &Args, input: &Input) -> Result<Output> {
    let (rows, cols) = (input.rows, input.cols);
    let (mut context, placement) = args.execution.context(&args.model, Routing::default())?;
    let config = context.config();
    let (depths, vocab_size) = (config.routed_depths(), config.vocab_size);
    let renormalized = config.architecture == Architecture::Technical
        && config.routing.pooling != Pooling::Prefix
        && config.routing.halted_rows == HaltedRows::Renormalize;
    let mut steps_shape = steps_shape(config, rows);
    // Where positions are routed by their prefix each has a depth; else the last one's is everyone's.
    let routed = config.resolve_depth(args.execution.depth())?.is_none();
    let by_position = routed && config.routes_by_position();
    let reported = if by_position { 0..cols } else { cols - 1..cols };
    if by_position {
        steps_shape.push(cols);
    }
    let mut logits = vec![0.0_f32; rows * cols * vocab_size];
    let mut steps = vec![0_i64; depths * rows * reported.len()];
    for row in 0..rows {
        let tokens = row * cols..(row + 1) * cols;
        let mask = input.mask.as_ref().map(|mask| &mask[tokens.clone()]);
        let values = &mut logits[row * cols * vocab_size..][..cols * vocab_size];
        let ids = &input.ids[tokens];
        let taken = placement.surely(&mut context, |context| match context {
            Engine::Cpu(decoder) => on_cpu(decoder, ids, mask, values),
            #[cfg(feature = "gpu")]
            Engine::Gpu(decoder) => block_on(on_gpu(decoder, ids, mask, values)),
        })?;
        for (layer, taken) in taken.iter().enumerate() {
            for (at, position) in reported.clone().enumerate() {
                let steps = &mut steps[(layer * rows + row) * reported.len() + at];
                *steps = i64::from(taken[position]);
            }
        }
    }
    // Rows that took fewer steps than another waited for it there.
    let mut layers = steps.chunks(rows * reported.len());
    let waited = rows > 1 && layers.any(|layer| layer.iter().any(|steps| *steps != layer[0]));
    if renormalized && waited {
        note!(
            "note: rows took different numbers of steps, and `halted_rows` is `renormalize`: the original run on them as one \
             batch gives other numbers, since halted rows are normalized again there; here each row is run alone. \
             --runtime burn runs them as one batch"
        );
    }
    Ok(Output {
        logits,
        steps,
        steps_shape,
    })
}

/// Writes the logits of a row, `[cols, vocab]`, and returns the steps of each layer and position.
fn on_cpu(
    decoder: &mut Decoder,
    ids: &[u32],
    mask: Option<&[bool]>,
    logits: &mut [f32],
) -> Result<Vec<Vec<u8>>, EngineError> {
    decoder.reset();
    match mask {
        Some(mask) => decoder.prefill_masked(ids, mask)?,
        None => decoder.prefill(ids)?,
    }
    let vocab_size = decoder.model().config().vocab_size;
    for (position, values) in logits.chunks_exact_mut(vocab_size).enumerate() {
        decoder.logits_at(position, values)?;
    }
    let layers = decoder.steps().len();
    let mut steps = vec![Vec::with_capacity(ids.len()); layers];
    for position in 0..ids.len() {
        for (layer, taken) in decoder.steps_at(position).enumerate() {
            steps[layer].push(taken);
        }
    }
    Ok(steps)
}

/// As [`on_cpu`].
#[cfg(feature = "gpu")]
async fn on_gpu(
    decoder: &mut mor_engine::gpu::GpuDecoder,
    ids: &[u32],
    mask: Option<&[bool]>,
    logits: &mut [f32],
) -> Result<Vec<Vec<u8>>, EngineError> {
    decoder.reset();
    match mask {
        Some(mask) => decoder.prefill_masked(ids, mask).await?,
        None => decoder.prefill(ids).await?,
    }
    let vocab_size = decoder.config().vocab_size;
    for (position, values) in logits.chunks_exact_mut(vocab_size).enumerate() {
        values.copy_from_slice(&decoder.logits_at(position).await?);
    }
    decoder.steps_by_position().await
}

#[cfg(feature = "train")]
fn run_burn(args: &Args, input: &Input) -> Result<Output> {
    let device = match args.execution.device {
        Device::Gpu => Device::Gpu,
        Device::Auto | Device::Cpu => Device::Cpu,
    };
    training_device::with(device, no_advice, |chosen| {
        #[cfg(feature = "gpu")]
        if chosen.is_gpu {
            super::probe::trust_burn(&args.model, chosen)?;
        }
        burn_logits(args, input, &chosen.device)
    })
}

#[cfg(feature = "train")]
fn burn_logits(args: &Args, input: &Input, device: &burn::tensor::Device) -> Result<Output> {
    use burn::tensor::{Bool, Int, Tensor, TensorData};

    let (rows, cols) = (input.rows, input.cols);
    let model = mor_model::Model::load(&args.model, device)?;
    let ids: Vec<i64> = input.ids.iter().map(|id| i64::from(*id)).collect();
    let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [rows, cols]), device);
    let mask = input.mask.clone().map(|mask| -> Tensor<2, Bool> {
        Tensor::from_data(TensorData::new(mask, [rows, cols]), device)
    });
    let options = mor_model::ForwardOptions {
        attention_mask: mask,
        depth: args.execution.depth(),
        ..mor_model::ForwardOptions::default()
    };
    let output = model.forward(ids, &options)?;
    let mut steps_shape = steps_shape(model.config(), rows);
    let steps: Vec<i64> = output.steps.iter().flatten().map(|s| *s as i64).collect();
    if steps.len() > steps_shape.iter().product() {
        steps_shape.push(cols);
    }
    let logits = model.logits(output.hidden).into_data().try_into_vec();
    let logits = logits.map_err(|error| anyhow!("{}: {error:?}", args.model.display()))?;
    Ok(Output {
        logits,
        steps,
        steps_shape,
    })
}

/// Which tokens later ones may see, unless the file leaves that to the ids.
fn mask(input: &Weights, len: usize) -> Result<Option<Vec<bool>>> {
    if !input.contains("attention_mask") {
        return Ok(None);
    }
    let values = input.to_i64("attention_mask")?;
    if values.len() != len {
        bail!(
            "{}: `attention_mask` has another shape than `input_ids`",
            input.path().display()
        );
    }
    Ok(Some(values.into_iter().map(|value| value != 0).collect()))
}

fn write(path: &Path, tensors: [(&str, Dtype, Vec<usize>, &Vec<u8>); 2]) -> Result<()> {
    let views: Result<Vec<_>, _> = tensors
        .into_iter()
        .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, shape, bytes)?)))
        .collect();
    let views = views.map_err(|error: safetensors::SafeTensorError| error)?;
    let bytes = safetensors::serialize(views, None)?;
    Ok(mor_files::write_through(path, &bytes)?)
}
