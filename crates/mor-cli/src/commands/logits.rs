//! `mor logits`: a model's raw output, for comparison with other programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mor_config::{Weights, write_atomic};
use safetensors::{Dtype, tensor::TensorView};

use super::inference::Execution;

/// Write the logits of every position of every row.
///
/// The input is a safetensors file with `input_ids` (i64 [batch, seq]) and, optionally,
/// `attention_mask` (i64, 1 for tokens that later ones may see). The output has `logits` (f32 [batch, seq,
/// vocab]) and `steps` (i64 [layers, batch]). Each row runs alone.
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
    #[command(flatten)]
    execution: Execution,
}

/// Runs the rows and writes the file.
pub(crate) fn run(args: Args) -> Result<()> {
    let input = Weights::open(&args.input)?;
    let [rows, cols] = *input.shape("input_ids")? else {
        bail!("{}: `input_ids` is not [batch, seq]", args.input.display());
    };
    let ids = input.to_i64("input_ids")?;
    let ids: Result<Vec<u32>, _> = ids.into_iter().map(u32::try_from).collect();
    let ids = ids.with_context(|| format!("{}: `input_ids`", args.input.display()))?;
    if ids.is_empty() {
        bail!("{}: `input_ids` is empty", args.input.display());
    }
    let mask = mask(&input, rows * cols)?;

    let mut decoder = args.execution.decoder(&args.model)?;
    let config = decoder.model().config();
    let (layers, vocab_size) = (config.num_hidden_layers, config.vocab_size);
    let mut logits = vec![0.0_f32; rows * cols * vocab_size];
    let mut steps = vec![0_i64; layers * rows];
    for row in 0..rows {
        let tokens = row * cols..(row + 1) * cols;
        decoder.reset();
        match &mask {
            Some(mask) => decoder.prefill_masked(&ids[tokens.clone()], &mask[tokens])?,
            None => decoder.prefill(&ids[tokens])?,
        }
        for (layer, taken) in decoder.steps().iter().enumerate() {
            steps[layer * rows + row] = i64::from(*taken);
        }
        let values = &mut logits[row * cols * vocab_size..];
        for (position, values) in values.chunks_exact_mut(vocab_size).take(cols).enumerate() {
            decoder.logits_at(position, values)?;
        }
    }
    let logits: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let steps: Vec<u8> = steps.iter().flat_map(|x| x.to_le_bytes()).collect();
    write(
        &args.output,
        [
            ("logits", Dtype::F32, vec![rows, cols, vocab_size], &logits),
            ("steps", Dtype::I64, vec![layers, rows], &steps),
        ],
    )
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
    Ok(write_atomic(path, &bytes)?)
}
