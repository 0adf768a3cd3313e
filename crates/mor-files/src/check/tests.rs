use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::PathCheck;

/// What is wrong with these inputs and outputs.
fn clash(reads: &[(&str, &Path)], writes: &[(&str, &Path)]) -> Option<String> {
    let mut check = PathCheck::new();
    for (option, path) in reads {
        check = check.reads(option, path);
    }
    for (option, path) in writes {
        check = check.writes(option, path);
    }
    check.check().err().map(|clash| clash.to_string())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A path to the same place, by detours.
fn spelled(path: &Path, detours: &[u8]) -> PathBuf {
    let mut spelled = PathBuf::new();
    let mut detours = detours.iter().cycle();
    for component in path.components() {
        let is_root = matches!(component, std::path::Component::RootDir);
        if !is_root && !spelled.as_os_str().is_empty() {
            match detours.next() {
                Some(1) => spelled.push("."),
                Some(2) => {
                    // Only a folder that exists can be left again.
                    let name = spelled.file_name().map(std::ffi::OsStr::to_owned);
                    if let Some(name) = name {
                        spelled.push("..");
                        spelled.push(name);
                    }
                }
                _ => {}
            }
        }
        spelled.push(component);
    }
    spelled
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_file_is_found_by_any_spelling(
        detours in prop::collection::vec(0_u8..3, 1..8),
        exists: bool,
    ) {
        let folder = folder();
        fs::create_dir(folder.path().join("sub")).expect("writable");
        let path = folder.path().join("sub/out.jsonl");
        let other = folder.path().join("sub/other.jsonl");
        if exists {
            fs::write(&path, "text").expect("writable");
        }
        let spelled = spelled(&path, &detours);
        let found = clash(&[], &[("--output", &path), ("--valid", &spelled)]);
        prop_assert!(found.unwrap_or_default().starts_with("--valid and --output name the same file"));
        prop_assert_eq!(clash(&[], &[("--output", &spelled), ("--valid", &other)]), None);
        let found = clash(&[("--input", &path)], &[("--output", &spelled)]);
        prop_assert!(found.unwrap_or_default().contains("--input reads"));
    }
}

#[test]
fn a_relative_path_is_found_too() {
    let here = std::env::current_dir().expect("a folder");
    let found = clash(
        &[],
        &[
            ("--output", Path::new("new/out")),
            ("--valid", &here.join("new/x/../out")),
        ],
    );
    assert!(found.is_some());
}

#[cfg(unix)]
#[test]
fn one_file_is_found_through_links() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "text").expect("writable");
    fs::hard_link(path("file"), path("hard")).expect("a link");
    symlink("file", path("link")).expect("a link");
    symlink("link", path("chain")).expect("a link");
    symlink("free", path("dangling")).expect("a link");
    symlink(folder.path(), path("folder")).expect("a link");
    let same = |a: &str, b: &str| {
        let outputs = clash(&[], &[("--output", &path(a)), ("--valid", &path(b))]);
        let input = clash(&[("--input", &path(a))], &[("--output", &path(b))]);
        assert_eq!(outputs.is_some(), input.is_some());
        outputs.is_some()
    };
    for name in ["hard", "link", "chain", "folder/file", "folder/chain"] {
        assert!(same("file", name), "{name}");
    }
    assert!(same("dangling", "free"));
    assert!(same("folder/free", "dangling"));
    assert!(!same("dangling", "other"));
    assert!(!same("file", "free"));
}

#[test]
fn an_output_inside_a_folder_that_is_read_is_refused() {
    let folder = folder();
    let corpus = folder.path().join("corpus");
    fs::create_dir_all(corpus.join("deep")).expect("writable");
    for name in ["corpus/out", "corpus/deep/new/out", "corpus"] {
        let output = folder.path().join(name);
        let found = clash(&[("--input", &corpus)], &[("--output", &output)]);
        assert!(found.is_some(), "{name}");
    }
    let beside = folder.path().join("corpus.jsonl");
    assert_eq!(
        clash(&[("--input", &corpus)], &[("--output", &beside)]),
        None
    );
}

#[test]
fn files_of_folders_are_compared_by_name() {
    let folder = folder();
    let model = folder.path().join("model");
    fs::create_dir(&model).expect("writable");
    fs::write(model.join("vocab.json"), "{}").expect("writable");
    let names = ["vocab.json", "tokenizer.json"];
    let import = || {
        PathCheck::new()
            .reads_files("--from", &model, names)
            .writes_files("--output", &model, ["tokenizer.json"])
            .check()
    };
    assert_eq!(import(), Ok(()));
    fs::write(model.join("tokenizer.json"), "{}").expect("writable");
    let clash = import().expect_err("would be lost").to_string();
    assert!(clash.contains("--output would replace"), "{clash}");
    assert!(clash.contains("tokenizer.json"), "{clash}");
    assert!(clash.contains("--from reads"), "{clash}");
}

#[test]
fn an_input_in_a_folder_that_is_replaced_is_refused() {
    let folder = folder();
    let run = folder.path().join("run");
    fs::create_dir_all(run.join("best")).expect("writable");
    let check = |data: &Path| {
        PathCheck::new()
            .reads("--init", data)
            .writes_tree("--output", &run.join("best"))
            .check()
    };
    assert!(check(&run.join("best")).is_err());
    assert!(check(&run.join("best/model.safetensors")).is_err());
    assert_eq!(check(&run.join("train.jsonl")), Ok(()));
}

#[test]
fn a_folder_is_no_file_and_a_file_no_folder() {
    let folder = folder();
    let found = clash(&[], &[("--output", folder.path())]).expect("refused");
    assert!(
        found.contains("--output") && found.contains("is a folder"),
        "{found}"
    );
    let file = folder.path().join("file");
    fs::write(&file, "text").expect("writable");
    let check = PathCheck::new().writes_files("--output", &file, ["config.json"]);
    let found = check.check().expect_err("refused").to_string();
    assert!(found.contains("is not a folder"), "{found}");
}

#[cfg(unix)]
#[test]
fn a_device_may_be_named_twice() {
    let null = Path::new("/dev/null");
    assert_eq!(
        clash(
            &[("--input", null)],
            &[("--output", null), ("--valid", null)]
        ),
        None
    );
}

#[test]
fn a_path_through_a_folder_that_does_not_exist_yet_leads_to_the_same_file() {
    let folder = folder();
    let path = folder.path().join("in.jsonl");
    fs::write(&path, "rows").expect("writable");
    let detour = folder.path().join("none/../in.jsonl");
    let problem = clash(&[("--input", &path)], &[("--output", &detour)]);
    assert!(problem.is_some_and(|it| it.contains("--input")));
}

#[cfg(unix)]
#[test]
fn two_files_of_one_option_that_a_link_makes_one_are_refused() {
    let folder = folder();
    std::os::unix::fs::symlink("b", folder.path().join("a")).expect("a link");
    let check = PathCheck::new().writes_files("--output", folder.path(), ["a", "b"]);
    let problem = check.check().expect_err("one file").to_string();
    assert!(problem.contains("which are the same file"), "{problem}");
    // The same name twice is one output.
    let check = PathCheck::new().writes_files("--output", folder.path(), ["b", "b"]);
    assert_eq!(check.check(), Ok(()));
}
