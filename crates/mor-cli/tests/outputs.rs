//! Outputs never destroy: neither one another, nor inputs, links, devices and permissions.
#![cfg(feature = "model")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROWS: usize = 30;

/// A folder with rows in `in.jsonl`, where commands run.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        let row = |n| {
            format!(
                r#"{{"messages":[{{"role":"user","content":"Question {n}?"}},{{"role":"assistant","content":"Answer {n}."}}]}}"#
            ) + "\n"
        };
        let rows: String = (0..ROWS).map(row).collect();
        fs::write(folder.path("in.jsonl"), rows).expect("writable");
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = common::mor();
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
        command.current_dir(self.0.path());
        for word in line.split(' ') {
            command.arg(word.replace("TESTS", &tests.display().to_string()));
        }
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("starts")
    }

    fn succeed(&self, line: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What is said by a command that is refused, and changes nothing.
    fn refuse(&self, line: &str, code: i32) -> String {
        let before = self.contents();
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {errors}");
        assert_eq!(self.contents(), before, "{line}");
        errors
    }

    /// Names, types and sizes of all files.
    fn contents(&self) -> Vec<(PathBuf, fs::FileType, u64)> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("readable") {
                let path = entry.expect("readable").path();
                let metadata = fs::symlink_metadata(&path).expect("there");
                let kind = metadata.file_type();
                if kind.is_dir() {
                    folders.push(path.clone());
                }
                let size = if kind.is_file() { metadata.len() } else { 0 };
                found.push((path, kind, size));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    fn lines(&self, name: &str) -> usize {
        let text = fs::read_to_string(self.path(name)).expect("there");
        text.lines().count()
    }
}

#[test]
fn two_outputs_that_are_one_file_are_refused() {
    let folder = Folder::new();
    fs::create_dir(folder.path("sub")).expect("writable");
    let prepare = "data prepare --input in.jsonl --valid-share 0.3";
    for (output, valid) in [
        ("out.jsonl", "out.jsonl"),
        ("out.jsonl", "./out.jsonl"),
        ("out.jsonl", "sub/../out.jsonl"),
        ("new/out.jsonl", "new/./out.jsonl"),
    ] {
        let error = folder.refuse(&format!("{prepare} --output {output} --valid {valid}"), 2);
        assert!(
            error.contains("--valid and --output name the same file"),
            "{error}"
        );
    }
    folder.succeed(&format!(
        "{prepare} --output out.jsonl --valid sub/out.jsonl"
    ));
    assert_eq!(
        folder.lines("out.jsonl") + folder.lines("sub/out.jsonl"),
        ROWS
    );
}

#[test]
fn an_output_that_is_an_input_is_refused() {
    let folder = Folder::new();
    let cases = [
        (
            "data prepare --input in.jsonl --output ./in.jsonl",
            "--input",
        ),
        ("data prepare --input . --output out.jsonl", "--input"),
        (
            "data prepare --input in.jsonl --rewrites rules.toml --output rules.toml",
            "--rewrites",
        ),
        (
            "data prepare --input in.jsonl --tokenizer tok --output tok/tokenizer.json",
            "--tokenizer",
        ),
        (
            "tokenizer train --input in.jsonl tok/tokenizer.json --output tok",
            "--input",
        ),
        ("tokenizer train --input . --output tok", "--input"),
        ("tokenizer import --from tok --output tok/../tok", "--from"),
        (
            "import technical --heads 4 --weights model/model.safetensors --output model",
            "--weights",
        ),
        (
            "import technical --heads 4 --weights w.pt --tokenizer tok --output tok",
            "--tokenizer",
        ),
        (
            "import conversational --weights w.pt --config model/config.json --output model",
            "--config",
        ),
        (
            "export --model model --output ./model --dtype q8",
            "--model",
        ),
        ("logits --model model --input ids --output ids", "--input"),
        (
            "logits --model model --input ids --output model/model.safetensors",
            "--model",
        ),
    ];
    let training: &[(&str, &str)] = if cfg!(feature = "train") {
        &[
            (
                "train --config r.toml --data run/metrics.jsonl --output run",
                "--data",
            ),
            (
                "train --config r.toml --data run/data/valid.tokens --valid in.jsonl --output run",
                "--data",
            ),
            (
                "train --config r.toml --data in.jsonl --valid run/report.html --output run",
                "--valid",
            ),
            (
                "train --config r.toml --data in.jsonl --init run/model --output run",
                "--init",
            ),
            ("train --config r.toml --data . --output new", "--data"),
            ("export --run run --output run/best", "--run"),
        ]
    } else {
        &[]
    };
    for name in ["tok", "model", "run/best", "run/data", "run/model"] {
        fs::create_dir_all(folder.path(name)).expect("writable");
    }
    for name in [
        "rules.toml",
        "tok/tokenizer.json",
        "model/config.json",
        "model/model.safetensors",
        "ids",
        "w.pt",
        "run/metrics.jsonl",
        "run/report.html",
        "run/data/valid.tokens",
        "run/model/config.json",
    ] {
        fs::write(folder.path(name), "text").expect("writable");
    }
    for (line, option) in cases.iter().chain(training) {
        let error = folder.refuse(line, 2);
        assert!(
            error.contains("--output") && error.contains(&format!("{option} reads")),
            "{line}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_folder_is_no_file() {
    let folder = Folder::new();
    fs::create_dir(folder.path("sub")).expect("writable");
    for line in [
        "data prepare --input in.jsonl --output sub",
        "data prepare --input in.jsonl --output out.jsonl --valid sub",
        "logits --model m --input ids --output sub",
    ] {
        let error = folder.refuse(line, 2);
        assert!(error.contains("sub is a folder"), "{error}");
    }
    for line in [
        "tokenizer train --input in.jsonl --output in.jsonl",
        "tokenizer import --from sub --output in.jsonl",
        "import technical --weights w.pt --heads 4 --output in.jsonl",
        "export --model sub --output in.jsonl",
    ] {
        let error = folder.refuse(line, 2);
        assert!(error.contains("in.jsonl is not a folder"), "{error}");
    }
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    use super::*;

    fn make(program: &str, path: &Path, args: &[&str]) -> bool {
        let made = Command::new(program).arg(path).args(args).output();
        made.expect("starts").status.success()
    }

    fn fifo(path: &Path) {
        assert!(make("mkfifo", path, &[]));
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_fifo_gets_the_rows_and_stays() {
        let folder = Folder::new();
        fifo(&folder.path("fifo"));
        symlink("fifo", folder.path("link")).expect("a link");
        for name in ["fifo", "link"] {
            let path = folder.path("fifo");
            let reader = std::thread::spawn(move || fs::read_to_string(path));
            folder.succeed(&format!("data prepare --input in.jsonl --output {name}"));
            let kind = fs::metadata(folder.path("fifo")).expect("there");
            assert!(kind.file_type().is_fifo());
            let got = reader.join().expect("runs").expect("text");
            assert_eq!(got.lines().count(), ROWS);
        }
    }

    #[test]
    fn what_must_be_an_ordinary_file_refuses_a_fifo_by_name() {
        let folder = Folder::new();
        fifo(&folder.path("fifo"));
        folder.succeed("tokenizer train --input in.jsonl --vocab-size 300 --output tok");
        let line = "data prepare --input in.jsonl --tokenizer tok --output fifo";
        let error = folder.refuse(line, 1);
        assert!(error.contains("fifo: is a FIFO"), "{error}");
        fs::create_dir(folder.path("other")).expect("writable");
        // The second of two files: nor is the first left alone.
        fifo(&folder.path("other/tokenizer_config.json"));
        let line = "tokenizer train --input in.jsonl --vocab-size 300 --output other";
        let error = folder.refuse(line, 1);
        assert!(
            error.contains("other/tokenizer_config.json: is a FIFO"),
            "{error}"
        );
    }

    #[test]
    fn a_device_is_written_and_stays() {
        let folder = Folder::new();
        // A private copy of the null device, which only an administrator can make.
        if !make("mknod", &folder.path("null"), &["c", "1", "3"]) {
            return;
        }
        folder
            .succeed("data prepare --input in.jsonl --output null --valid null --valid-share 0.3");
        let metadata = fs::symlink_metadata(folder.path("null")).expect("there");
        assert!(metadata.file_type().is_char_device());
    }

    #[test]
    fn links_are_followed_and_permissions_stay() {
        let folder = Folder::new();
        fs::create_dir(folder.path("disk")).expect("writable");
        fs::write(folder.path("disk/private"), "old").expect("writable");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(folder.path("disk/private"), private).expect("ours");
        symlink("disk/private", folder.path("link")).expect("a link");
        symlink("disk/new", folder.path("dangling")).expect("a link");
        symlink("circle", folder.path("circle")).expect("a link");
        for (name, target) in [("link", "disk/private"), ("dangling", "disk/new")] {
            folder.succeed(&format!("data prepare --input in.jsonl --output {name}"));
            assert!(folder.path(name).is_symlink(), "{name}");
            assert_eq!(folder.lines(target), ROWS);
        }
        assert_eq!(mode(&folder.path("disk/private")), 0o600);
        assert_eq!(
            mode(&folder.path("disk/new")),
            mode(&folder.path("in.jsonl"))
        );
        let error = folder.refuse("data prepare --input in.jsonl --output circle", 1);
        assert!(
            error.contains("circle: ") && error.contains("links"),
            "{error}"
        );

        // A folder on another disk, with a file that is kept elsewhere still.
        symlink("disk", folder.path("tok")).expect("a link");
        fs::create_dir(folder.path("store")).expect("writable");
        symlink("../store/it", folder.path("disk/tokenizer.json")).expect("a link");
        folder.succeed("tokenizer train --input in.jsonl --vocab-size 300 --output tok");
        assert!(folder.path("tok").is_symlink());
        assert!(folder.path("disk/tokenizer.json").is_symlink());
        assert!(folder.path("store/it").is_file());
        assert!(folder.path("disk/tokenizer_config.json").is_file());
    }

    #[test]
    fn one_file_is_known_by_its_links() {
        let folder = Folder::new();
        fs::hard_link(folder.path("in.jsonl"), folder.path("hard")).expect("a link");
        symlink("in.jsonl", folder.path("link")).expect("a link");
        symlink("new", folder.path("dangling")).expect("a link");
        for name in ["hard", "link"] {
            let line = format!("data prepare --input in.jsonl --output {name}");
            assert!(folder.refuse(&line, 2).contains("--input reads"));
        }
        let line = "data prepare --input in.jsonl --output new --valid dangling";
        assert!(folder.refuse(line, 2).contains("--valid and --output"));
        // What is exported from may stand behind links in what is exported to.
        fs::create_dir(folder.path("model")).expect("writable");
        fs::create_dir(folder.path("copy")).expect("writable");
        fs::write(folder.path("model/notes.txt"), "text").expect("writable");
        symlink("../model/notes.txt", folder.path("copy/notes.txt")).expect("a link");
        let error = folder.refuse("export --model model --output copy", 2);
        assert!(error.contains("notes.txt, which --model reads"), "{error}");
    }

    /// A limit on the size of files fails a write as a full disk does.
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file_and_leaves_nothing() {
        let folder = Folder::new();
        fs::write(folder.path("old.jsonl"), "old").expect("writable");
        for (line, name) in [
            (
                "data prepare --input in.jsonl --output old.jsonl",
                "old.jsonl",
            ),
            (
                "data prepare --input in.jsonl --output new/out.jsonl",
                "new/out.jsonl",
            ),
            (
                "tokenizer train --input in.jsonl --output new/tok",
                "new/tok/tokenizer.json",
            ),
        ] {
            let before = folder.contents();
            let mor = folder.command(line);
            let output = Command::new("sh")
                .current_dir(folder.0.path())
                .args(["-c", r#"trap "" XFSZ; ulimit -f 1; exec "$@""#, "sh"])
                .arg(mor.get_program())
                .args(mor.get_args())
                .output()
                .expect("starts");
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{error}");
            assert!(error.contains(&format!("{name}: ")), "{error}");
            assert!(!error.contains(".partial-"), "{error}");
            assert_eq!(folder.contents(), before);
        }
    }

    #[cfg(feature = "train")]
    #[test]
    fn a_run_that_cannot_start_leaves_the_link_to_its_folder() {
        let folder = Folder::new();
        let recipe = r#"
[model]
preset = "technical-10m"
vocab_size = 512
[train]
steps = 8
batch_tokens = 1024
lr = 4e-3
[train.optimizer]
kind = "adamw"
"#;
        fs::write(folder.path("recipe.toml"), recipe).expect("writable");
        symlink("disk/run", folder.path("run")).expect("a link");
        let line = "train --config recipe.toml --tokenizer TESTS/data/tokenizer --data nowhere --output run";
        let error = folder.refuse(line, 1);
        assert!(error.contains("nowhere"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn rows_that_go_to_standard_output_stay_among_themselves() {
        let folder = Folder::new();
        // What /dev/stdout is.
        symlink("/proc/self/fd/1", folder.path("stdout")).expect("a link");
        let line = "data prepare --input in.jsonl --output stdout";
        let piped = folder.succeed(line);
        assert_eq!(piped.lines().count(), ROWS);
        assert!(piped.lines().all(|line| line.starts_with('{')), "{piped}");
        assert!(folder.path("stdout").is_symlink());

        let file = fs::File::create(folder.path("redirected")).expect("writable");
        let status = folder
            .command(line)
            .stdout(file)
            .stderr(std::process::Stdio::null())
            .status();
        assert!(status.expect("starts").success());
        assert_eq!(folder.lines("redirected"), ROWS);

        folder.succeed("tokenizer train --input in.jsonl --vocab-size 300 --output tok");
        let error = folder.refuse(&format!("{line} --tokenizer tok"), 1);
        assert!(error.contains("stdout: is standard output"), "{error}");
    }
}
