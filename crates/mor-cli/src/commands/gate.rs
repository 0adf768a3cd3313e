//! `mor gate`: gates for a recursive model whose weights stay as they are.

use std::path::PathBuf;

use anyhow::Result;
use mor_config::{Budget, CONFIG_FILE};
use mor_files::{PathCheck, StagedFolder, file_names};
use mor_train::evaluate::Evaluator;
use mor_train::gate::{GateSettings, fit};

use super::device::{DEVICE_VARIABLE, Device, DeviceParser};
use super::training_device::{self, no_advice};
use super::{MODEL_FILES, probe};

/// Fit gates to a recursive model, so that each token decides how often it loops.
///
/// A gate after each loop learns, on frozen weights, what further loops would change. Its thresholds for every budget, the
/// mean number of loops, are then measured on other text. The model should have been trained at random depths.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor gate --model runs/first/model --data train.jsonl --calibrate valid.jsonl --output models/mine"
)]
pub(crate) struct Args {
    /// Model folder: config.json, model.safetensors, tokenizer.json.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Text to fit on: a token file of `mor data prepare`, or what that reads.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Text to calibrate on, which the model was not trained on and is not measured on later.
    #[arg(long, value_name = "FILE")]
    calibrate: PathBuf,
    /// Model folder to write.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Tokens to fit on.
    #[arg(long, value_name = "N", default_value_t = GateSettings::default().tokens)]
    tokens: usize,
    /// Mean loops where nothing else is asked for [default: six tenths of those beyond the first].
    #[arg(long, value_name = "X")]
    budget: Option<Budget>,
    /// Where to compute.
    #[arg(long, value_parser = DeviceParser, env = DEVICE_VARIABLE, default_value = "auto")]
    device: Device,
}

/// Fits, calibrates and writes.
pub(crate) fn run(args: Args) -> Result<()> {
    PathCheck::new()
        .reads_folder("--model", &args.model)
        .writes_files("--output", &args.output, MODEL_FILES)
        .writes_files("--output", &args.output, file_names(&args.model))
        .check()?;
    let settings = GateSettings {
        tokens: args.tokens,
        budget: args.budget,
        ..GateSettings::default()
    };
    let fitted = training_device::with(args.device, no_advice, |device| {
        let open = |data| Evaluator::load(&args.model, data, None, &device.device);
        let (data, other) = (open(&args.data)?, open(&args.calibrate)?);
        Ok(fit(
            data.model(),
            data.data(),
            other.data(),
            &settings,
            |done| {
                note!("{done}");
            },
        )?)
    })?;
    let staged = StagedFolder::new(&args.output)?;
    mor_import::convert(&args.model, staged.path(), fitted.precision(&args.model)?)?;
    fitted.write(&args.model, staged.path())?;
    probe::write(staged.path())?;
    staged.commit(CONFIG_FILE, &mor_text::OLDER_FILES)?;
    for (gate, explained) in (1..).zip(&fitted.explained) {
        say!(
            "gate {gate}: explains {:.0} % of what further loops change",
            100.0 * explained
        );
    }
    let [fit, calibrated] = fitted.tokens;
    say!("fitted on {fit} tokens, calibrated on {calibrated}");
    say!(
        "{} with gates is now in {}",
        args.model.display(),
        args.output.display()
    );
    Ok(())
}
