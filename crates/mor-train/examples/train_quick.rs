//! Trains from the command line without the `mor` program: recipe, data, validation, run folder,
//! then optionally `--resume`, `--steps N`, `--minutes N`.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use mor_train::Device;
use mor_train::schedule::Budget;
use mor_train::{Event, Paths, Recipe, Trainer};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<f64>().ok()
    };
    let [recipe, data, valid, output, ..] = &args[..] else {
        return Err("usage: RECIPE DATA VALID OUTPUT [--resume] [--steps N] [--minutes N]".into());
    };
    let mut recipe = Recipe::read(Path::new(recipe))?;
    if let Some(steps) = value("--steps") {
        recipe.set_budget(Budget::Steps(steps as u64))?;
    }
    if let Some(minutes) = value("--minutes") {
        recipe.set_budget(Budget::Minutes(minutes))?;
    }
    let paths = Paths {
        data: data.into(),
        valid: Some(PathBuf::from(valid)),
        tokenizer: None,
        output: output.into(),
    };
    let resume = args.iter().any(|arg| arg == "--resume");
    let trainer = Trainer::new(recipe, &paths, resume, &Device::flex())?;
    let (mut loss, mut bits) = (0.0, 0.0);
    let outcome = trainer.run(&AtomicBool::new(false), &mut |event| match event {
        Event::Step { metrics, seconds_left } => {
            let m = metrics;
            if m.step == 1 {
                (loss, bits) = (m.loss, m.bits_per_byte);
            }
            loss += 0.05 * (m.loss - loss);
            bits += 0.05 * (m.bits_per_byte - bits);
            if m.step <= 10 || m.step.is_multiple_of(20) {
                println!(
                    "step {:6}  loss {loss:.4}  bpb {bits:.4}  grad {:.3}  lr {:.2e}  {:.0} tok/s  {:.1}%  {:.0} s left",
                    m.step, m.gradient_norm, m.learning_rate, m.tokens_per_second, m.progress * 100.0, seconds_left
                );
            }
        }
        Event::Validating(_) => {}
        Event::Validation { metrics, best } => println!("validation {metrics:?} best {best}"),
    })?;
    println!("{outcome:?}");
    Ok(())
}
