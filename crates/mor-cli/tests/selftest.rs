//! `mor selftest` as users run it, on whatever Vulkan driver there is.

#![cfg(feature = "selftest")]

mod common;

use std::path::Path;
use std::process::Output;

use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    let mut command = common::mor();
    // Nothing of the repository is at hand.
    let empty = tempfile::tempdir().expect("a folder");
    command.arg("selftest").args(arguments);
    command.current_dir(empty.path());
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn wrong_use_is_told() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m");
    let model = model.to_str().expect("text");
    let config = format!("{model}/config.json");
    for (arguments, said) in [
        (vec!["--minutes", "0"], "0.01 to 1440"),
        (vec!["--minutes", "soon"], "0.01 to 1440"),
        (vec!["--device", "cpu"], "possible values: gpu"),
        (vec!["--part", "everything"], "operations"),
        (vec!["--model", model, "--json", &config], "--json"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let errors = text(&output.stderr);
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
}

#[test]
fn a_page_and_a_file_say_what_was_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("report.json");
    let path = json.to_str().expect("text");
    let output = run(&["--part", "adapter", "--part", "answers", "--json", path]);
    let (page, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{page}{errors}");
    let report: Value =
        serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
    assert_eq!(report["version"], 1);
    assert_eq!(report["passed"], true);
    let parts = report["parts"].as_array().expect("parts");
    assert_eq!(parts.len(), 2);
    let adapter = &parts[0]["adapter"];
    let name = adapter["name"].as_str().expect("a name");
    assert!(!name.is_empty() && page.contains(name), "{page}");
    assert!(adapter["limits"]["maxBufferSize"].as_u64() > Some(1 << 20));
    // There is no model here.
    assert_eq!(parts[1]["status"], "skipped");
    let reason = parts[1]["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("--model") && page.contains(reason),
        "{page}"
    );
    assert!(page.contains("no part failed"), "{page}");
}

#[test]
fn answers_of_a_model_are_compared_and_one_that_is_none_fails() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m");
    let model = model.to_str().expect("text");
    let answers = |model: &str| {
        run(&[
            "--part",
            "answers",
            "--minutes",
            "0.01",
            "--model",
            model,
            "--json",
            "/dev/stdout",
        ])
    };
    if cfg!(unix) {
        let output = answers(model);
        let page = text(&output.stderr);
        assert!(output.status.success(), "{page}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON alone");
        let check = &report["parts"][0]["checks"][0];
        assert!(check["cases"].as_u64() > Some(0), "{check}");
        assert!(page.contains("passed  answers"), "{page}");

        let output = answers("no-such-folder");
        assert_eq!(output.status.code(), Some(1));
        let errors = text(&output.stderr);
        assert!(errors.contains("1 of 1 parts failed: answers"), "{errors}");
        assert!(errors.contains("no-such-folder"), "{errors}");
    }
}
