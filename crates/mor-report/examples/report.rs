//! Writes the metrics of a made-up run, its report and its TensorBoard events, to look at.
//!
//! `cargo run -p mor-report --example report -- FOLDER [STEPS]`

use std::path::PathBuf;

use mor_report::metrics::{RouterMetrics, Sample, StepMetrics, Summary, ValidationMetrics};
use mor_report::tensorboard::EventWriter;
use mor_report::{MetricsFile, RunFacts, write_report};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "report-example".into()));
    let steps: u64 = arguments.next().map_or(Ok(6000), |text| text.parse())?;
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("metrics.jsonl");
    let mut metrics = MetricsFile::open(&path, 0)?;
    let mut events = EventWriter::open(&folder.join("tensorboard"), 0)?;
    let mut noise = Noise(7);
    let every = (steps / 24).max(1);
    for step in 1..=steps {
        let line = made_up_step(step, steps, &mut noise);
        metrics.write(&line)?;
        events.write(&line)?;
        if step.is_multiple_of(every) {
            let line = made_up_validation(step, steps, &mut noise);
            metrics.write(&line)?;
            events.write_validation(&line)?;
        }
    }
    events.flush()?;
    let facts = [
        ("Model", "technical-10m, 9,963,392 parameters"),
        ("Data", "data/train.jsonl (48,211 conversations)"),
        ("Seed", "1234"),
        ("Program", "mor 0.1.0, CPU, 2 threads"),
        (
            "Command",
            "mor train configs/technical-10m.toml --out runs/example",
        ),
    ];
    let run = RunFacts {
        title: "technical-10m, a made-up run".into(),
        facts: facts.map(|(k, v)| (k.into(), v.into())).into(),
    };
    let page = folder.join("report.html");
    write_report(&path, &run, &page)?;
    println!("{}", page.display());
    Ok(())
}

/// Pseudo-random numbers: splitmix64.
struct Noise(u64);

impl Noise {
    /// Uniform between 0 and 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Nearly normal, with standard deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// The loss that the run tends to at a share of its budget.
fn loss_at(share: f64) -> f64 {
    1.9 + 7.1 * (-share * 90.0).exp() + 1.2 * (-share * 4.0).exp() - 0.25 * share
}

/// Rows by class when the mean perplexity is this.
fn classes(perplexity: f64, noise: &mut Noise) -> Vec<u64> {
    let mut rows = vec![0; 3];
    for _ in 0..32 {
        let row = perplexity * (0.5 * noise.normal()).exp();
        rows[usize::from(row >= 20.0) + usize::from(row >= 50.0)] += 1;
    }
    rows
}

fn made_up_step(step: u64, steps: u64, noise: &mut Noise) -> StepMetrics {
    let share = step as f64 / steps as f64;
    let spike = step == steps * 3 / 10 || step == steps * 62 / 100;
    let skipped = step == steps * 45 / 100;
    let leap = if spike { 1.4 } else { 0.0 };
    let loss = loss_at(share) + 0.09 * noise.normal() + leap;
    let warm_up = (share / 0.03).min(1.0);
    let perplexity = loss_at(share).exp() * 2.2;
    let learned = (share * 3.0).min(1.0);
    let targets = classes(perplexity, noise);
    let chosen = classes(perplexity * learned + 30.0 * (1.0 - learned), noise);
    StepMetrics {
        step,
        tokens: step * 4096,
        seconds: step as f64 * 2.1,
        progress: share,
        loss: if skipped { f64::NAN } else { loss },
        bits_per_byte: if skipped { f64::NAN } else { loss / 1.72 },
        learning_rate: 6e-4 * warm_up * (0.55 + 0.45 * (share * std::f64::consts::PI).cos()),
        gradient_norm: if skipped {
            f64::INFINITY
        } else {
            (0.6 + 6.0 * (-share * 60.0).exp() + leap * 20.0) * (0.25 * noise.normal()).exp()
        },
        tokens_per_second: 1950.0 + 60.0 * noise.normal()
            - if step.is_multiple_of(211) { 700.0 } else { 0.0 },
        depth: 2.4 - share * 0.6,
        depths: vec![0, chosen[0], 0, chosen[1], 0, chosen[2]],
        router: Some(RouterMetrics {
            loss: 0.35 + 0.75 * (-share * 6.0).exp() + 0.05 * noise.normal(),
            classes: chosen,
            targets,
            perplexity,
        }),
        loss_scale: Some(if share < 0.45 { 65536.0 } else { 32768.0 }),
        skipped,
        spike,
    }
}

fn made_up_validation(step: u64, steps: u64, noise: &mut Noise) -> ValidationMetrics {
    let share = step as f64 / steps as f64;
    let overfit = 0.9 * (share - 0.8).max(0.0);
    let loss = loss_at(share) + 0.06 + overfit + 0.008 * noise.normal();
    let stage = [
        "the the a",
        "It is a way to",
        "It lets you run a program in parts",
        "A thread is a part of a program that runs on its own.\nEach has its own stack, and all share the heap.",
    ];
    let answer = stage[((share * 4.0) as usize).min(3)];
    let sample = |prompt: &str, answer: &str| Sample {
        prompt: prompt.into(),
        answer: answer.into(),
    };
    ValidationMetrics {
        step,
        tokens: step * 4096,
        seconds: step as f64 * 2.1,
        validation: Summary {
            loss,
            perplexity: loss.exp(),
            bits_per_byte: loss / 1.72,
            tokens: 181_204,
            bytes: 449_000,
            conversations: 1200,
        },
        depths: vec![
            0,
            (300.0 + 500.0 * share) as u64,
            0,
            500,
            0,
            (500.0 - 400.0 * share) as u64,
        ],
        samples: vec![
            sample("What is a thread?", answer),
            sample("How do I list files?", &format!("Use `ls`. {answer}")),
            sample(
                "Say <b>hello</b>.",
                if share < 0.3 {
                    ""
                } else {
                    "<b>hello</b> <script>alert(1)</script>"
                },
            ),
        ],
    }
}
