//! `mor train`, `mor eval` and `mor export` as a person uses them.
#![cfg(feature = "train")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::mor;
use common::training::*;

#[test]
fn a_reader_that_leaves_does_not_end_the_training() {
    let folder = Folder::new();
    let mut command = folder.train(&[]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().expect("ends").success());
    assert!(folder.path("run/model/model.safetensors").is_file());
}

#[test]
fn trains_measures_and_exports() {
    let folder = Folder::new();
    let printed = succeed(&mut folder.train(&[]));
    assert!(printed.contains("the model is in"), "{printed}");
    assert!(printed.contains("validation after step 8"), "{printed}");

    let exported = folder.path("half");
    succeed(
        mor()
            .arg("export")
            .arg("--run")
            .arg(folder.path("run"))
            .arg("--output")
            .arg(&exported)
            .args(["--dtype", "f16"]),
    );
    let files = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "probe.json",
    ];
    for file in files {
        assert!(exported.join(file).is_file(), "{file}");
    }

    let eval = |more: &[&str]| {
        let mut command = mor();
        command.arg("eval").arg("--model").arg(&exported);
        command
            .arg("--data")
            .arg(sample("technical-sample-valid.jsonl"))
            .args(more);
        command
    };
    let report: serde_json::Value =
        serde_json::from_str(&succeed(&mut eval(&["--json", "--depth", "1"]))).expect("JSON");
    assert!(
        report["bits_per_byte"]
            .as_f64()
            .is_some_and(|bits| bits > 1.0)
    );
    assert_eq!(report["depths"]["1"], 40);
    assert!(
        report["sources"]
            .as_object()
            .is_some_and(|all| all.len() > 1)
    );
    assert!(succeed(&mut eval(&["--limit", "5"])).contains("perplexity"));
    assert!(fail(&mut eval(&["--depth", "9"]), 1).contains("at most 2"));
    assert!(fail(&mut eval(&["--limit", "0"]), 2).contains("at least 1"));
}

/// `timeout` sends its signal to the program and to its group: the second must not undo what the first asked for.
#[cfg(unix)]
#[test]
fn a_signal_that_comes_twice_saves_once() {
    let folder = Folder::new();
    // The same command from the first time on.
    let command = || folder.train(&["--resume", "--max-steps", "1000000"]);
    let metrics = folder.path("run/metrics.jsonl");
    let size = || std::fs::metadata(&metrics).map_or(0, |file| file.len());
    for _ in 0..2 {
        let before = size();
        let mut child = command().stdout(Stdio::piped()).spawn().expect("runs");
        let started = Instant::now();
        while size() <= before {
            assert!(started.elapsed().as_secs() < 120, "no step in two minutes");
            assert!(child.try_wait().expect("alive").is_none(), "ended early");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Two kinds, so that the second does not merge with the first while that waits.
        let kill = |kind: &str| {
            let id = child.id().to_string();
            Command::new("kill")
                .args([kind, &id])
                .status()
                .expect("kill exists")
        };
        kill("-TERM");
        kill("-INT");
        let output = child.wait_with_output().expect("ends");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{:?}: {printed}", output.status);
        assert!(printed.contains("saved in"), "{printed}");
        assert!(has_checkpoint(&folder.path("run")));
    }
    let steps = std::fs::read_to_string(&metrics)
        .expect("readable")
        .lines()
        .count()
        + 1;
    succeed(&mut folder.train(&["--resume", "--max-steps", &steps.to_string()]));
}

/// Ctrl-C saves, and the same command with `--resume` finishes.
#[cfg(unix)]
#[test]
fn stops_on_control_c_and_goes_on() {
    let folder = Folder::new();
    let mut child = folder
        .train(&["--max-steps", "1000000"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    let metrics = folder.path("run").join("metrics.jsonl");
    let started = Instant::now();
    while std::fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
        assert!(started.elapsed().as_secs() < 120, "no step in two minutes");
        assert!(child.try_wait().expect("alive").is_none(), "ended early");
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupt = Command::new("kill")
        .arg("-INT")
        .arg(child.id().to_string())
        .status();
    assert!(interrupt.expect("kill exists").success());
    let output = child.wait_with_output().expect("ends");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("--resume"), "{printed}");
    assert!(folder.path("run/report.html").is_file());

    let lines = std::fs::read_to_string(&metrics).expect("readable");
    let steps = lines.lines().count() + 2;
    let steps = steps.to_string();
    succeed(&mut folder.train(&["--resume", "--max-steps", &steps]));
    let lines = std::fs::read_to_string(&metrics).expect("readable");
    assert!(lines.contains(&format!("\"step\":{steps},")), "{lines}");
}

/// Kills `child` once its metrics have grown `growths` times, and a pause later. False if it ended by itself before.
///
/// Progress decides, not the clock: a fast machine ends a whole run in the time that a slow one needs for a step.
#[cfg(unix)]
fn kill_after(child: &mut Child, metrics: &Path, growths: u64, pause: Duration) -> bool {
    let size = || std::fs::metadata(metrics).map_or(0, |file| file.len());
    let mut seen = size();
    let mut grown = 0;
    while grown < growths {
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "a resumed run failed");
            return false;
        }
        let now = size();
        grown += u64::from(now > seen);
        seen = now;
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(pause);
    child.kill().expect("killed");
    !child.wait().expect("gone").success()
}

/// Kills a run at random moments, mostly while it writes a checkpoint, since it writes one after every step. What comes
/// out in the end is, to the bit, what a run that nobody disturbed gives.
#[cfg(unix)]
#[test]
fn twenty_kills_change_nothing() {
    const KILLS: u32 = 20;
    let folder = Folder::new();
    let recipe = RECIPE.replace(
        "steps = 8",
        "steps = 60\ncheckpoint_steps = 1\nvalidate_every = 7",
    );
    let recipe = recipe.replace(
        "num_hidden_layers = 1",
        "num_hidden_layers = 1\nhidden_dropout_prob = 0.1",
    );
    folder.write("recipe.toml", &recipe);
    let model = |run: &Path| std::fs::read(run.join("model/model.safetensors")).expect("a model");
    let train = |run: &Path, resume: bool| {
        let run = run.display().to_string();
        let mut more = vec!["--output", &run];
        if resume {
            more.push("--resume");
        }
        folder.train(&more)
    };
    let straight = folder.path("straight");
    succeed(&mut train(&straight, false));

    let mut random = 0x9E37_79B9_u64;
    let mut below = |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let mut kills = 0;
    // A run that ends before it was killed often enough is compared, and another begins.
    for round in 0.. {
        let run = folder.path(&format!("killed-{round}"));
        while kills < KILLS {
            let child = train(&run, has_checkpoint(&run))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let (growths, pause) = (below(4), Duration::from_millis(below(40)));
            let metrics = run.join("metrics.jsonl");
            if !kill_after(&mut child.expect("starts"), &metrics, growths, pause) {
                break;
            }
            kills += 1;
        }
        if kills == KILLS {
            succeed(&mut train(&run, has_checkpoint(&run)));
        }
        assert!(
            model(&run) == model(&straight),
            "other weights after {kills} kills"
        );
        if kills == KILLS {
            break;
        }
        assert!(round < 50, "only {kills} kills met a running process");
    }
}

/// Whether a run has a whole checkpoint to go on from.
#[cfg(unix)]
fn has_checkpoint(run: &Path) -> bool {
    std::fs::read_dir(run.join("checkpoints")).is_ok_and(|entries| {
        let mut names = entries.flatten().map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().starts_with("step-"))
    })
}

#[test]
fn a_dry_run_says_what_a_run_would_take_and_leaves_nothing() {
    let folder = Folder::new();
    let printed = succeed(&mut folder.train(&["--dry-run", "--set", "train.steps=1000"]));
    for part in [
        "parameters",
        "1,000",
        "seconds a step",
        "estimated time",
        "memory",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
    assert!(!folder.path("run").exists());
}

#[test]
fn a_run_starts_from_given_weights() {
    let folder = Folder::new();
    succeed(&mut folder.train(&[]));
    let model = folder.path("run/model").display().to_string();
    let next = folder.path("next").display().to_string();
    let tiny = [
        "--output",
        &next,
        "--init",
        &model,
        "--set",
        "train.lr=1e-30",
    ];
    succeed(&mut folder.train(&tiny));
    let weights = |run: &str| std::fs::read(folder.path(run).join("model/model.safetensors"));
    // With a learning rate of nothing the weights stay as they were.
    assert!(weights("run").expect("a model") == weights("next").expect("a model"));
    let other = [
        "--output",
        &next,
        "--init",
        &model,
        "--set",
        "model.hidden_size=64",
    ];
    std::fs::remove_dir_all(&next).expect("removable");
    let error = fail(&mut folder.train(&other), 1);
    assert!(error.contains("is another model"), "{error}");
    assert!(
        error.contains("`model.hidden_size` is 32, there 64"),
        "{error}"
    );

    let wider = RECIPE.replace("vocab_size = 512", "vocab_size = 520");
    folder.write("wider.toml", &wider);
    let wider = folder.path("wider.toml").display().to_string();
    let vocabulary = ["--output", &next, "--init", &model, "--config", &wider];
    let error = fail(&mut folder.train(&vocabulary), 1);
    assert!(
        error.contains("`model.vocab_size` is 512, there 520"),
        "{error}"
    );
}
