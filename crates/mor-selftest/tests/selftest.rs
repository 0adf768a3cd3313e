//! The self-test on whatever Vulkan driver there is, with the least that it does.

use std::sync::Mutex;

use mor_selftest::{Options, Part, PartReport, Replacement, Status, run, run_part};

/// No time beyond what always runs.
const LEAST: f64 = 0.0;

/// What a shader's text becomes.
type Edit = fn(&str) -> String;

fn broken(operation: &'static str, edit: Edit) -> Options {
    Options {
        replacement: Some(Replacement { operation, edit }),
        ..Options::default()
    }
}

/// Names of the checks that failed, and of those that passed.
fn named(part: &PartReport) -> [Vec<&str>; 2] {
    [Status::Failed, Status::Passed].map(|status| {
        let checks = part.checks.iter().filter(|check| check.status == status);
        checks.map(|check| check.what.as_str()).collect()
    })
}

#[test]
fn a_broken_kernel_of_training_is_named_and_the_rest_still_runs() {
    // It computes something else, or is no shader at all.
    let broken_ones: [(&str, Edit); 2] = [
        ("gelu", |source| source.replace("gelu(value)", "value")),
        ("scaled sum", |_| "this is no shader".to_owned()),
    ];
    for (operation, edit) in broken_ones {
        let options = broken(operation, edit);
        let found = run_part(Part::Operations, LEAST, &options);
        println!("{}", found.to_page());
        assert_eq!(found.status, Status::Failed);
        let [failed, passed] = named(&found);
        assert_eq!(failed, [operation; 3], "once for each variant");
        for other in [
            "linear",
            "layer norm",
            "attention",
            "adamw",
            "sum of squares",
        ] {
            assert!(passed.contains(&other), "{other}");
        }
        assert!(
            found
                .to_page()
                .contains(&format!("FAILED {operation} portable f32"))
        );
    }
    // And nothing of it stays.
    let found = run_part(Part::Operations, LEAST, &Options::default());
    assert_eq!(found.status, Status::Passed, "{}", found.to_page());
}

#[test]
fn a_kernel_of_inference_that_computes_wrongly_is_named() {
    let options = broken("matvec", |source| {
        source.replace("var value = sums[r];", "var value = sums[r] * 1.001;")
    });
    let found = run_part(Part::Operations, LEAST, &options);
    let [failed, passed] = named(&found);
    assert_eq!(found.status, Status::Failed);
    assert!(
        failed.iter().all(|what| what.starts_with("matvec")),
        "{failed:?}"
    );
    assert_eq!(failed.len(), 6, "two ways in three variants: {failed:?}");
    assert!(passed.contains(&"matmul: prefill") && passed.contains(&"linear"));
}

#[test]
fn a_broken_kernel_of_inference_is_named_and_the_rest_still_runs() {
    let options = broken("embed", |_| "this is no shader".to_owned());
    let found = run_part(Part::Goldens, LEAST, &options);
    println!("{}", found.to_page());
    assert_eq!(found.status, Status::Failed);
    let [failed, passed] = named(&found);
    assert!(failed.contains(&"golden rows of m2"), "{failed:?}");
    // Training has an embedding of its own.
    assert!(failed.iter().all(|what| !what.contains("training")));
    assert!(passed.contains(&"golden losses and gradients of m2"));
}

#[test]
fn a_part_that_panics_is_named_and_all_others_run() {
    static BEGUN: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let options = Options {
        before: Some(|part| {
            BEGUN.lock().expect("whole").push(part.name());
            // Not while the list is held.
            assert!(part != Part::Goldens, "the driver is gone");
        }),
        ..Options::default()
    };
    let mut ended = Vec::new();
    let report = run(0.001, &options, |part| {
        println!("{}", part.to_page());
        ended.push(part.name.clone());
    });
    let all = Part::ALL.map(Part::name);
    assert_eq!(*BEGUN.lock().expect("whole"), all);
    assert_eq!(ended, all);
    assert_eq!(report.failed(), ["goldens"], "{}", report.to_page());
    for part in &report.parts {
        let reason = part.reason.as_deref().unwrap_or_default();
        match part.name.as_str() {
            "goldens" => assert!(reason.contains("the driver is gone"), "{reason}"),
            "answers" => assert!(reason.contains("--model"), "{reason}"),
            _ => assert_eq!(part.status, Status::Passed, "{}", part.to_page()),
        }
    }
    // Something was measured, however little time there was.
    let part = |name: &str| {
        let mut parts = report.parts.iter();
        parts.find(|part| part.name == name).expect("ran")
    };
    let speed = &part("speed").speeds[0];
    assert!(speed.decode_tokens_per_second > 0.0 && speed.share_of_copy > 0.0);
    assert_eq!(part("speed").speeds.len(), 27);
    let training = &part("training").training[0];
    assert!(training.tokens_per_second > 0.0 && training.launches_per_step > 100);
    assert!(training.bytes_in_use > 0 && training.share_of_product > 0.0);
    assert!(part("losses").checks[0].cases >= 5);
    let read: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
    assert_eq!(read["parts"][4]["speeds"][0]["storage"], "f32");
}
