//! `mor train`: a recipe and data in, a run folder out.

mod interrupts;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use mor_files::PathCheck;
use mor_report::metrics::{StepMetrics, ValidationMetrics};
use mor_text::tokens::TokenFile;
use mor_train::recipe::Override;
use mor_train::schedule::Budget;
use mor_train::{Event, Outcome, Paths, Recipe, RunFolder, Trainer};

use super::device::{DEVICE_VARIABLE, Device, DeviceParser};
use super::training_device::{self, no_advice};
use super::{MODEL_FILES, probe};
use interrupts::{Answer, Interrupts};

/// Steps between lines when the output is not a terminal.
const PLAIN_EVERY: u64 = 50;

/// Units of the progress bar.
const BAR: u64 = 10_000;

/// Train a model by a recipe.
///
/// The run folder gets metrics.jsonl (one line a step), report.html to look at, events for TensorBoard, the newest
/// checkpoints and the best one (by bits per byte on the validation data), and, when the budget is used up, model: a
/// folder that `mor eval`, `mor chat` and `mor serve` read. Ctrl-C finishes the step and saves; the same command with
/// --resume goes on as if nothing had happened, also after a crash. It may have --resume from the first time on: where
/// there is no checkpoint yet, it starts from the beginning.
///
/// configs/README.md documents every key of a recipe.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  mor train --config configs/technical-10m.toml \
    --data train.jsonl --valid valid.jsonl --output runs/first --minutes 30\n  \
    mor train --config configs/technical-10m.toml --data train.tokens --output runs/x \
    --set train.lr=3e-4 --set model.num_hidden_layers=6 --dry-run"
)]
pub(crate) struct Args {
    /// Recipe: model, optimizer, schedule and budget, in TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Change a key of the recipe, such as train.lr=3e-4; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Override>,
    /// Training data: a token file of `mor data prepare`, or what that reads: also a folder.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Validation data of the same kinds. Without it there is no best checkpoint, and the model is the last.
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// Run folder to create, or to go on with.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Go on from the run folder's newest checkpoint that is whole; without any, start.
    #[arg(long)]
    resume: bool,
    /// Start from the weights of this model folder, which must be the recipe's model, instead of random ones. A run that
    /// goes on has weights of its own.
    #[arg(long, value_name = "DIR")]
    init: Option<PathBuf>,
    /// Folder with tokenizer.json and tokenizer_config.json, instead of the recipe's.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Budget in optimizer steps, instead of the recipe's budget.
    #[arg(long, value_name = "N", conflicts_with = "minutes", value_parser = clap::value_parser!(u64).range(1..))]
    max_steps: Option<u64>,
    /// Budget in minutes of training over all sessions, instead of the recipe's. The learning
    /// rate decays with the clock, to its end exactly when the time is over.
    #[arg(long, value_name = "N", value_parser = parse_minutes)]
    minutes: Option<f64>,
    /// Where to train. With auto, on a GPU if the machine has one.
    #[arg(long, value_parser = DeviceParser, env = DEVICE_VARIABLE, default_value = "auto")]
    device: Device,
    /// Take two steps, print what the run will take, and leave nothing behind.
    #[arg(long)]
    dry_run: bool,
}

fn parse_minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if f64::is_finite(minutes) && minutes > 0.0 => Ok(minutes),
        _ => Err("expected a number above 0".to_owned()),
    }
}

/// Prints what was found while the run was set up.
fn warn(trainer: &Trainer) {
    for warning in trainer.warnings() {
        note!("warning: {warning}");
    }
}

/// Refuses a run that would write over what it reads. One that goes on may do so with its own recipe, and any with the
/// tokens that it made of its data.
fn check_paths(args: &Args) -> Result<()> {
    let named = [
        ("--data", "train", Some(&args.data)),
        ("--valid", "valid", args.valid.as_ref()),
    ];
    let mut check = PathCheck::new();
    let mut tokenized = Vec::new();
    for (option, name, path) in named {
        let Some(path) = path else { continue };
        check = check.reads(option, path);
        if !(path.is_file() && TokenFile::is_token_file(path).unwrap_or(false)) {
            tokenized.push(name);
        }
    }
    if let Some(folder) = &args.init {
        check = check.reads_files("--init", folder, MODEL_FILES);
    }
    if !args.resume {
        check = check.reads("--config", &args.config);
    }
    let folder = RunFolder::new(&args.output);
    Ok(folder.writes(check, "--output", &tokenized).check()?)
}

/// Trains until the budget is used up or Ctrl-C.
pub(crate) fn run(args: Args) -> Result<()> {
    if !args.dry_run {
        check_paths(&args)?;
    }
    let mut recipe = Recipe::read(&args.config, &args.set)?;
    if let Some(steps) = args.max_steps {
        recipe.set_budget(Budget::Steps(steps))?;
    }
    if let Some(minutes) = args.minutes {
        recipe.set_budget(Budget::Minutes(minutes))?;
    }
    let inputs: Vec<PathBuf> = std::iter::once(&args.data)
        .chain(&args.valid)
        .cloned()
        .collect();
    let mut paths = Paths {
        data: args.data.clone(),
        valid: args.valid.clone(),
        tokenizer: args.tokenizer.clone(),
        init: args.init.clone(),
        output: args.output.clone(),
    };
    if args.dry_run {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        paths.output = folder.path().join("run");
        paths.valid = None;
        super::data::files(&inputs, None)?;
        return training_device::with(args.device, no_advice, |chosen| {
            let trainer = Trainer::new(recipe, &paths, false, &chosen.device)?;
            note!("training on {}", chosen.description);
            warn(&trainer);
            plan(trainer)
        });
    }
    let ranks = super::ranks::connect()?;
    let first = ranks.is_first();
    if first {
        super::data::files(&inputs, None)?;
    }
    let folder = RunFolder::new(&args.output);
    #[cfg(feature = "gpu")]
    let goes_on = args.resume && (folder.best().exists() || !folder.checkpoints().is_empty());
    let advice = || match folder.checkpoints().is_empty() {
        true => String::new(),
        false => "; checkpoints are whole: the same command goes on with --resume".to_owned(),
    };
    training_device::with(args.device, advice, |chosen| {
        #[cfg(feature = "gpu")]
        if let Some(model) = args.init.as_ref().filter(|_| chosen.is_gpu && !goes_on) {
            probe::trust_burn(model, chosen)?;
        }
        let trainer = Trainer::with_ranks(recipe, &paths, args.resume, &chosen.device, ranks)?;
        if first {
            warn(&trainer);
            note!("training on {}", chosen.description);
            introduce(&trainer);
        }
        run_to_the_end(trainer, &folder, first)
    })
}

/// Trains until the budget is used up or Ctrl-C, and tells if this is the `first` of several processes.
fn run_to_the_end(trainer: Trainer, folder: &RunFolder, first: bool) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let interrupts = Arc::new(Mutex::new(Interrupts::default()));
    let asked = Arc::clone(&interrupts);
    ctrlc::set_handler(move || {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.signal(Instant::now()) {
            Answer::Finish => {
                flag.store(true, Ordering::Relaxed);
                note!("\nfinishing this step, then saving; Ctrl-C again stops at once");
            }
            Answer::Nothing => {}
            Answer::Wait(left) => note!(
                "\nstill saving; Ctrl-C in more than {} s gives it up",
                left.as_secs()
            ),
            Answer::Leave => std::process::exit(130),
        }
    })
    .context("cannot listen for Ctrl-C")?;

    let mut display = Display::new()?;
    let outcome = trainer.run(&stop, &mut |event| {
        if let Event::Saving(begins) = event {
            let mut interrupts = interrupts.lock().unwrap_or_else(PoisonError::into_inner);
            interrupts.saving(begins, Instant::now());
        }
        if first {
            display.show(event);
        }
    })?;
    display.bar.finish_and_clear();
    if !first {
        return Ok(());
    }
    match outcome {
        Outcome::Finished { model, best } => {
            if let Some(best) = best {
                say!(
                    "best: {:.4} bits per byte after step {}",
                    best.bits_per_byte,
                    best.step
                );
            }
            probe::write(&model)?;
            say!("the model is in {}", model.display());
            say!("look at {}", folder.report().display());
            say!("try it: mor chat --model {}", model.display());
        }
        Outcome::Interrupted { step: 0 } => say!("stopped before the first step; nothing is saved"),
        Outcome::Interrupted { step } => {
            say!(
                "stopped after step {step}, saved in {}; go on with the same command and --resume",
                folder.path().display()
            );
        }
    }
    Ok(())
}

fn plan(trainer: Trainer) -> Result<()> {
    introduce(&trainer);
    let plan = trainer.plan()?;
    let memory = mor_engine::bench::Memory::now();
    let rows = [
        ("parameters", HumanCount(plan.parameters as u64).to_string()),
        ("tokens of the data", HumanCount(plan.tokens).to_string()),
        ("steps", HumanCount(plan.steps).to_string()),
        (
            "tokens a step",
            HumanCount(plan.tokens_per_step).to_string(),
        ),
        ("seconds a step", format!("{:.2}", plan.seconds_per_step)),
        (
            "weights, gradients, optimizer",
            HumanBytes(plan.state_bytes).to_string(),
        ),
        (
            "memory in all, so far",
            memory.map_or("unknown".to_owned(), |memory| {
                HumanBytes(memory.peak as u64).to_string()
            }),
        ),
        ("estimated time", duration(plan.seconds())),
    ];
    for (name, value) in rows {
        say!("{name:30} {value:>14}");
    }
    Ok(())
}

fn introduce(trainer: &Trainer) {
    let data = trainer.train_data();
    say!(
        "{} parameters; {} documents, {} tokens, {} bytes in {}",
        trainer.model_config().parameter_count().total,
        data.documents(),
        data.tokens(),
        data.total_bytes(),
        data.path().display()
    );
    if data.left_out() > 0 {
        note!(
            "warning: {} rows were left out, since they are malformed or have no answer; \
             `mor data prepare` tells them apart",
            data.left_out()
        );
    }
    for text in data.notes() {
        note!("warning: {text}");
    }
    let state = trainer.state();
    if state.step > 0 {
        say!(
            "going on after step {} ({:.0} s)",
            state.step,
            state.seconds
        );
    }
}

/// A bar on a terminal, plain lines elsewhere.
struct Display {
    bar: ProgressBar,
    plain: bool,
    /// Moving averages of loss, bits per byte and speed.
    smooth: Option<[f64; 3]>,
    note: String,
}

impl Display {
    fn new() -> Result<Self> {
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(BAR)
        };
        bar.set_style(ProgressStyle::with_template(
            "{bar:24} {percent:>3} %  {msg}",
        )?);
        Ok(Self {
            bar,
            plain,
            smooth: None,
            note: String::new(),
        })
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Step {
                metrics,
                seconds_left,
            } => self.step(metrics, seconds_left),
            Event::Validating(share) => {
                if !self.plain {
                    self.bar
                        .set_message(format!("validating {:.0} %", share * 100.0));
                }
            }
            Event::Validation { metrics, best } => self.validation(metrics, best),
            Event::Saving(_) => {}
            Event::Warning(text) => self.bar.suspend(|| note!("warning: {text}")),
        }
    }

    fn step(&mut self, metrics: &StepMetrics, seconds_left: f64) {
        if metrics.skipped {
            self.line(&format!(
                "warning: step {} was skipped: its loss or gradient is not a finite number",
                metrics.step
            ));
            return;
        }
        if metrics.spike {
            self.line(&format!(
                "warning: the loss of step {} is {:.3}, over six standard deviations above the recent mean",
                metrics.step, metrics.loss
            ));
        }
        let now = [
            metrics.loss,
            metrics.bits_per_byte,
            metrics.tokens_per_second,
        ];
        let smooth = self.smooth.get_or_insert(now);
        for (smooth, now) in smooth.iter_mut().zip(now) {
            *smooth += 0.05 * (now - *smooth);
        }
        let [loss, bits, speed] = *smooth;
        let text = format!(
            "step {}  loss {loss:.3}  ppl {:.1}  bpb {bits:.3}  {speed:.0} tok/s  {} left{}",
            metrics.step,
            loss.exp(),
            duration(seconds_left),
            self.note
        );
        if !self.plain {
            self.bar
                .set_position((metrics.progress * BAR as f64) as u64);
            self.bar.set_message(text);
        } else if metrics.step == 1 || metrics.step.is_multiple_of(PLAIN_EVERY) {
            say!("{:5.1} %  {text}", metrics.progress * 100.0);
        }
    }

    fn validation(&mut self, metrics: &ValidationMetrics, best: bool) {
        let summary = &metrics.validation;
        self.note = format!("  (valid bpb {:.3})", summary.bits_per_byte);
        self.line(&format!(
            "validation after step {}: loss {:.4}  perplexity {:.2}  bits per byte {:.4}{}",
            metrics.step,
            summary.loss,
            summary.perplexity,
            summary.bits_per_byte,
            if best { "  best so far" } else { "" }
        ));
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| say!("{text}"));
    }
}

/// Hours and minutes, or minutes and seconds.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    if seconds >= 3600 {
        format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60)
    } else {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    }
}
