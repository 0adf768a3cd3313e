//! Training on a GPU, lavapipe where there is no other, learns what training on the CPU learns.
use std::path::Path;

use crate::common::*;
use mor_train::{ChosenDevice, Device, DeviceChoice, open_device};

/// The device. Without an adapter the tests fail, saying which package to install.
fn gpu() -> ChosenDevice {
    open_device(DeviceChoice::Gpu).unwrap_or_else(|error| panic!("{error}"))
}

/// The losses of a run's steps.
fn losses(output: &Path) -> Vec<f64> {
    let metrics = metrics(output).into_iter();
    metrics.filter_map(|line| line["loss"].as_f64()).collect()
}

/// The losses of its validations: of the averages of its weights, where it has some.
fn validations(output: &Path) -> Vec<f64> {
    let metrics = metrics(output).into_iter();
    let losses = metrics.filter_map(|line| line["validation"]["loss"].as_f64());
    losses.collect()
}

/// Runs a recipe on both devices, and compares the loss of every step.
fn same_losses(text: &str, tolerance: f64) {
    let dir = tempfile::tempdir().expect("a folder");
    let (cpu, other) = (dir.path().join("cpu"), dir.path().join("gpu"));
    run(text, &cpu, false, None);
    run_on(&gpu().device, text, &other, false, None);
    let all = |run: &Path| [losses(run), validations(run)].concat();
    assert!(!validations(&cpu).is_empty());
    let (expected, found) = (all(&cpu), all(&other));
    assert_eq!(found.len(), expected.len());
    let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs());
    let worst = worst.fold(0.0, f64::max);
    println!("{} steps, losses differ by {worst:.1e}", expected.len());
    assert!(worst < tolerance, "losses differ by {worst}");
    let (first, last) = (expected[0], expected[expected.len() - 1]);
    assert!(last < first - 0.1, "{first} to {last}");
}

/// Twenty steps of half the size.
fn short(text: &str) -> String {
    text.replace("steps = 12", "steps = 20")
        .replace("batch_tokens = 768", "batch_tokens = 256")
        .replace("accumulate = 2\n", "")
        .replace("validate_every = 4", "validate_every = 20")
}

#[test]
fn twenty_steps_of_muon() {
    same_losses(&short(RECIPE), 1e-3);
}

#[test]
fn twenty_steps_of_adamw() {
    let text = short(RECIPE)
        .replace("kind = \"muon\"", "kind = \"adamw\"")
        // Gradients of two batches are added up.
        .replace("batch_tokens = 256", "batch_tokens = 128\naccumulate = 2");
    same_losses(&text, 1e-3);
}

/// Rows and positions of different depths: halted ones are gathered out and scattered back.
#[test]
fn twenty_steps_with_routers() {
    for pooling in ["real", "prefix"] {
        let text = CONVERSATIONAL
            .replace("POOLING", pooling)
            // Noise is another on each device.
            .replace(
                "pad_token_id = 0",
                "pad_token_id = 0\nhidden_dropout_prob = 0.0",
            )
            .replace("steps = 6", "steps = 20")
            .replace("validate_every = 6", "validate_every = 20")
            .replace("batch_tokens = 768", "batch_tokens = 256");
        same_losses(&text, 1e-3);
    }
}

#[test]
fn a_run_moves_between_devices() {
    let dir = tempfile::tempdir().expect("a folder");
    let (whole, moved) = (dir.path().join("whole"), dir.path().join("moved"));
    let text = short(RECIPE).replace("steps = 20", "steps = 9");
    run(&text, &whole, false, None);
    run_on(&gpu().device, &text, &moved, false, Some(3));
    run(&text, &moved, true, Some(6));
    run_on(&gpu().device, &text, &moved, true, None);
    let (expected, found) = (losses(&whole), losses(&moved));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-3, "{found} is not {expected}");
    }
}

#[test]
fn half_precision_learns_or_says_why_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let gpu = gpu();
    // So large a factor that the first steps overflow and are skipped.
    let text = short(RECIPE).replace("ema = 0.9", "matmul = \"f16\"\nloss_scale = 2e6");
    let output = dir.path().join("run");
    if !gpu.half {
        assert!(
            !mor_model::gpu::is_software(),
            "the adapter of the tests has shader-f16"
        );
        let refused = trainer_on(&gpu.device, &text, &output, false);
        let error = refused.expect_err("an adapter without f16");
        assert!(error.contains("shader-f16"), "{error}");
        return;
    }
    run_on(&gpu.device, &text, &output, false, None);
    let reference = dir.path().join("reference");
    let f32_text = text.replace("matmul = \"f16\"\nloss_scale = 2e6", "");
    run(&f32_text, &reference, false, None);
    let scales: Vec<f64> = metrics(&output)
        .iter()
        .filter_map(|line| line["loss_scale"].as_f64())
        .collect();
    println!("loss scales {scales:?}");
    let last = |output: &Path| losses(output).pop().expect("a step");
    let (found, expected) = (last(&output), last(&reference));
    println!("f16 {found}, f32 {expected}");
    assert!((found - expected).abs() < 0.3, "{found} is not {expected}");
    assert!(scales.last() < scales.first(), "{scales:?}");
}

#[test]
fn bf16_is_for_cpus_and_the_run_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = short(RECIPE).replace("ema = 0.9", "matmul = \"bf16\"");
    let made = trainer_on(&gpu().device, &text, &dir.path().join("run"), false).expect("a run");
    let warning = made.warnings().first().expect("a warning");
    assert!(warning.contains("computes in f32"), "{warning}");
    let made = trainer_on(&Device::flex(), &text, &dir.path().join("cpu"), false);
    assert!(made.expect("a run").warnings().is_empty());
}
