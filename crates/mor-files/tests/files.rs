//! Ordinary files: whole or not at all, where links lead, with the permissions that were there.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use mor_files::{AtomicFile, OutputStream, StagedFolder, append, copy, write, write_through};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn what_belonged_to_the_files_before_goes_with_them() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    for name in ["old", "replaced", "other"] {
        fs::write(path(name), "old").expect("writable");
    }
    let staged = StagedFolder::new(folder.path()).expect("writable");
    write(&staged.path().join("replaced"), b"new").expect("written");
    staged
        .commit("replaced", &["old", "replaced", "never"])
        .expect("written");
    assert_eq!(names(folder.path()), ["other", "replaced"]);
    assert_eq!(fs::read(path("replaced")).expect("there"), b"new");
}

#[test]
fn a_file_appears_when_it_is_whole() {
    let folder = folder();
    let path = folder.path().join("new/sub/out");
    let mut file = AtomicFile::create(&path).expect("writable");
    file.write_all(b"....text").expect("writable");
    file.seek(SeekFrom::Start(0)).expect("seekable");
    file.write_all(b"some").expect("writable");
    assert!(!path.exists());
    file.commit().expect("written");
    assert_eq!(fs::read(&path).expect("there"), b"sometext");
    assert_eq!(names(path.parent().expect("a folder")), ["out"]);
}

#[test]
fn what_is_given_up_leaves_nothing_behind() {
    let folder = folder();
    let old = folder.path().join("old");
    write(&old, b"old").expect("written");
    for path in [old.clone(), folder.path().join("new/sub/out")] {
        let mut file = AtomicFile::create(&path).expect("writable");
        file.write_all(b"half").expect("writable");
        drop(file);
        let mut output = OutputStream::create(&path).expect("writable");
        output.write_all(b"half").expect("writable");
        drop(output);
    }
    drop(StagedFolder::new(&folder.path().join("new/model")).expect("writable"));
    assert_eq!(names(folder.path()), ["old"]);
    assert_eq!(fs::read(&old).expect("there"), b"old");
}

#[test]
fn an_error_names_the_file() {
    let folder = folder();
    write(&folder.path().join("file"), b"text").expect("written");
    let path = folder.path().join("file/out.jsonl");
    for error in [
        write(&path, b"x"),
        write_through(&path, b"x"),
        append(&path).map(drop),
        StagedFolder::new(&path).map(drop),
    ] {
        let error = error.expect_err("no folder").to_string();
        assert!(error.contains("out.jsonl: "), "{error}");
    }
    for path in [folder.path().to_owned(), folder.path().join("new/")] {
        let error = write(&path, b"x").expect_err("a folder").to_string();
        assert!(error.contains("is a folder"), "{error}");
    }
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn staged_files_appear_together_beside_those_that_stay() {
    let folder = folder();
    let output = folder.path().join("models/mine");
    for text in ["one", "two"] {
        let staged = StagedFolder::new(&output).expect("writable");
        for name in ["config.json", "weights"] {
            write(&staged.path().join(name), text.as_bytes()).expect("written");
        }
        assert!(fs::read(output.join("weights")).is_ok_and(|it| it == b"one") == (text == "two"));
        staged.commit("config.json", &[]).expect("written");
        assert_eq!(
            fs::read_to_string(output.join("weights")).expect("there"),
            text
        );
        write(&output.join("README.md"), b"mine").expect("written");
    }
    assert_eq!(names(&output), ["README.md", "config.json", "weights"]);
    assert_eq!(names(&folder.path().join("models")), ["mine"]);
}

#[test]
fn nothing_is_moved_where_one_file_cannot_be() {
    let folder = folder();
    let output = folder.path().join("model");
    fs::create_dir_all(output.join("weights")).expect("writable");
    write(&output.join("config.json"), b"old").expect("written");
    let staged = StagedFolder::new(&output).expect("writable");
    for name in ["config.json", "weights"] {
        write(&staged.path().join(name), b"new").expect("written");
    }
    let error = staged.commit("", &[]).expect_err("a folder").to_string();
    assert!(error.contains("weights: is a folder"), "{error}");
    assert_eq!(fs::read(output.join("config.json")).expect("there"), b"old");
    assert_eq!(names(&output), ["config.json", "weights"]);
}

#[test]
fn what_is_appended_comes_after_what_is_there() {
    let folder = folder();
    let path = folder.path().join("run/metrics.jsonl");
    for line in ["one\n", "two\n"] {
        let mut file = append(&path).expect("writable");
        file.write_all(line.as_bytes()).expect("writable");
    }
    assert_eq!(fs::read(&path).expect("there"), b"one\ntwo\n");
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use proptest::prelude::*;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn links_stay_and_what_they_lead_to_is_written(
            contents: Vec<u8>,
            links in 1_usize..6,
            exists: bool,
            absolute: bool,
        ) {
            let folder = folder();
            let disk = folder.path().join("disk");
            fs::create_dir(&disk).expect("writable");
            let target = disk.join("out");
            if exists {
                fs::write(&target, "old").expect("writable");
            }
            let link = |number: usize| folder.path().join(format!("link{number}"));
            let first = if absolute { target.clone() } else { "disk/out".into() };
            symlink(first, link(0)).expect("a link");
            for number in 1..links {
                symlink(format!("link{}", number - 1), link(number)).expect("a link");
            }
            write(&link(links - 1), &contents).expect("written");
            prop_assert_eq!(fs::read(&target).expect("there"), contents);
            prop_assert!((0..links).all(|number| link(number).is_symlink()));
            prop_assert_eq!(names(&disk), ["out"]);
        }

        #[test]
        fn permissions_of_what_is_replaced_stay(mode_before in 0_u32..0o1000) {
            // A file that its owner may not write is refused.
            let mode_before = mode_before | 0o600;
            let folder = folder();
            let path = folder.path().join("out");
            fs::write(&path, "old").expect("writable");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode_before)).expect("ours");
            write(&path, b"new").expect("written");
            prop_assert_eq!(mode(&path), mode_before);
            write_through(&path, b"newer").expect("written");
            prop_assert_eq!(mode(&path), mode_before);
            prop_assert_eq!(fs::read(&path).expect("there"), b"newer");
        }
    }

    #[test]
    fn a_folder_is_made_where_its_link_leads() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        symlink("disk/run", path("run")).expect("a link");
        drop(AtomicFile::create(&path("run/out")).expect("writable"));
        assert_eq!(names(folder.path()), ["run"]);
        write(&path("run/data/tokens"), b"text").expect("written");
        append(&path("run/metrics.jsonl")).expect("writable");
        write(&path("run/out"), b"text").expect("written");
        assert_eq!(names(&path("disk/run")), ["data", "metrics.jsonl", "out"]);
        assert!(path("run").is_symlink());
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        symlink("b", path("a")).expect("a link");
        symlink("a", path("b")).expect("a link");
        symlink("self", path("self")).expect("a link");
        for name in ["a", "self"] {
            let error = write(&path(name), b"x").expect_err("a circle").to_string();
            assert!(error.contains("links lead in a circle"), "{error}");
        }
        assert_eq!(names(folder.path()), ["a", "b", "self"]);
    }

    #[test]
    fn a_new_file_allows_what_others_made_here_allow() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("ordinary"), "x").expect("writable");
        fs::create_dir(path("folder")).expect("writable");
        let expected = mode(&path("ordinary"));
        write(&path("whole"), b"x").expect("written");
        write_through(&path("stream"), b"x").expect("written");
        append(&path("grows")).expect("writable");
        for name in ["whole", "stream", "grows"] {
            assert_eq!(mode(&path(name)), expected, "{name}");
        }
        let staged = StagedFolder::new(&path("staged")).expect("writable");
        write(&staged.path().join("a"), b"x").expect("written");
        staged.commit("", &[]).expect("written");
        assert_eq!(mode(&path("staged")), mode(&path("folder")));
        assert_eq!(mode(&path("staged/a")), expected);

        fs::set_permissions(path("ordinary"), fs::Permissions::from_mode(0o400)).expect("ours");
        copy(&path("ordinary"), &path("copy")).expect("written");
        assert_eq!(mode(&path("copy")), 0o600);
    }

    #[test]
    fn staged_files_go_where_links_lead_and_keep_permissions() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("disk/model")).expect("writable");
        fs::write(path("disk/weights"), "old").expect("writable");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(path("disk/weights"), private).expect("ours");
        symlink("disk/model", path("model")).expect("a link");
        symlink("../weights", path("model/weights")).expect("a link");
        let staged = StagedFolder::new(&path("model")).expect("writable");
        write(&staged.path().join("weights"), b"new").expect("written");
        staged.commit("", &[]).expect("written");
        assert!(path("model").is_symlink() && path("model/weights").is_symlink());
        assert_eq!(fs::read(path("disk/weights")).expect("there"), b"new");
        assert_eq!(mode(&path("disk/weights")), 0o600);
        // A link to a folder that does not exist yet.
        symlink("disk/later", path("later")).expect("a link");
        let staged = StagedFolder::new(&path("later")).expect("writable");
        write(&staged.path().join("weights"), b"new").expect("written");
        staged.commit("", &[]).expect("written");
        assert_eq!(names(&path("disk/later")), ["weights"]);
        assert_eq!(names(&path("disk")), ["later", "model", "weights"]);
    }

    #[test]
    fn errors_name_no_temporary_file() {
        let folder = folder();
        let staged = StagedFolder::new(&folder.path().join("model")).expect("writable");
        fs::create_dir(staged.path().join("weights")).expect("writable");
        let error = write(&staged.path().join("weights"), b"x").expect_err("a folder");
        assert!(
            error.to_string().contains("/model/weights: is a folder"),
            "{error}"
        );
        assert!(!error.to_string().contains(".partial-"), "{error}");
    }

    #[test]
    fn a_protected_file_is_not_replaced() {
        let folder = folder();
        let path = folder.path().join("out");
        fs::write(&path, "kept").expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("ours");
        // An administrator may write any file.
        if fs::metadata(&path).expect("there").uid() == 0 {
            return;
        }
        write(&path, b"new").expect_err("protected");
        assert_eq!(fs::read(&path).expect("there"), b"kept");
    }
}
