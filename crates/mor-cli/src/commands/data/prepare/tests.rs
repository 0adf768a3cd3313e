//! `mor data prepare` without a process of its own.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// Parses a command line, with `{}` standing for `folder`.
fn parse(folder: &Path, line: &str) -> Args {
    let line = line.replace("{}", &folder.display().to_string());
    Line::try_parse_from(std::iter::once("prepare").chain(line.split_whitespace()))
        .unwrap()
        .args
}

#[test]
fn options_override_the_preset_one_by_one() {
    let folder = Path::new("x");
    let filter = |line| parse(folder, line).filter();
    assert_eq!(filter("--input a b --output c"), Filter::default());
    assert_eq!(
        filter("--input a --output c --preset technical"),
        Filter::technical()
    );
    let changed =
        filter("--input a --output c --preset technical --min-spaces 0 --reject-prefix ssh,git");
    let expected = Filter {
        min_spaces: Some(0),
        reject_prefixes: vec!["ssh".to_owned(), "git".to_owned()],
        ..Filter::technical()
    };
    assert_eq!(changed, expected);
}

#[test]
fn nothing_is_written_on_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let good = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"source":"s","licence":"MIT"}"#;
    std::fs::write(path("in.jsonl"), format!("{good}\nbroken\n")).unwrap();
    std::fs::write(path("empty.txt"), "\r\n\n").unwrap();
    let run =
        |line: &str| super::run(&parse(folder.path(), line)).map_err(|error| format!("{error:#}"));

    let error = run("--input {}/in.jsonl --output {}/out.jsonl --strict").unwrap_err();
    assert!(
        error.contains("in.jsonl:2: expected a JSON object"),
        "{error}"
    );
    let error = run("--input {}/in.jsonl --output {}/out.jsonl --min-chars 9").unwrap_err();
    assert!(error.contains("1 too short"), "{error}");
    let error = run("--input {}/empty.txt --output {}/out.jsonl").unwrap_err();
    assert!(error.contains("the input has none"), "{error}");
    let error = run("--input {}/none.txt --output {}/out.jsonl").unwrap_err();
    assert_eq!(
        error.matches("No such file").count(),
        usize::from(cfg!(unix)),
        "{error}"
    );
    assert!(
        run("--input {}/in.jsonl --output {}/in.jsonl")
            .unwrap_err()
            .contains("which --input reads")
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);

    std::fs::write(path("rules.toml"), "[[copy]]\nname = 'x'\nrules = 1").unwrap();
    let error =
        run("--input {}/in.jsonl --output {}/out.jsonl --rewrites {}/rules.toml").unwrap_err();
    assert!(
        error.contains("rules.toml: ") && !path("out.jsonl").exists(),
        "{error}"
    );

    run("--input {}/in.jsonl {}/empty.txt --output {}/new/out.jsonl").unwrap();
    assert_eq!(
        std::fs::read_to_string(path("new/out.jsonl")).unwrap(),
        format!("{good}\n")
    );
    let rules = "[[copy]]\nname = 'x'\nrules = [{ find = 'q', replace = 'Q' }]";
    std::fs::write(path("rules.toml"), rules).unwrap();
    run("--input {}/in.jsonl --output {}/new/out.jsonl --rewrites {}/rules.toml").unwrap();
    assert_eq!(
        std::fs::read_to_string(path("new/out.jsonl")).unwrap(),
        format!("{good}\n{}\n", good.replace("\"q\"", "\"Q\""))
    );
}
