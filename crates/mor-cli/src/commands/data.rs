//! `mor data`: turn raw files into training rows, and say what was left out.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use mor_text::data::{Filter, FilterReport, Reason, Rewrites, Rows, Selection};
use mor_text::{AtomicFile, Conversation};
use serde_json::json;

/// Prepare training data.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Prepare(Box<Prepare>),
}

/// Filter chat JSON lines and plain text into one file of training rows.
///
/// Reads rows one at a time, keeps those that meet every condition, and writes them as chat JSON lines, with
/// their source and licence. A line of plain text becomes a conversation of one assistant message. Without a
/// preset and without options every well-formed row is kept.
///
/// Conditions look at the contents of a row's messages, joined by a line break. The table says how many rows each
/// condition dropped; a row counts under the first one it fails, in the table's order.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    mor data prepare --input raw.jsonl --output train.jsonl --preset technical\n  \
    mor data prepare --input *.txt --output train.jsonl --preset technical --max-rows 200000")]
struct Prepare {
    /// Files to read: chat JSON lines (.jsonl) or plain text (.txt).
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    input: Vec<PathBuf>,
    /// File to write; it appears when all is read, whole or not at all.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Start from the conditions of a model card; the options below override them one by one.
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    /// Fewest characters of a row.
    #[arg(long, value_name = "N")]
    min_chars: Option<usize>,
    /// Most characters of a row.
    #[arg(long, value_name = "N")]
    max_chars: Option<usize>,
    /// Fewest spaces of a row.
    #[arg(long, value_name = "N")]
    min_spaces: Option<usize>,
    /// Drop rows that begin with any of these, whatever their case.
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    reject_prefix: Option<Vec<String>>,
    /// Largest share of full stops among a row's characters, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    max_full_stops: Option<f64>,
    /// Drop rows whose first N characters were seen before.
    #[arg(long, value_name = "N")]
    dedup_chars: Option<usize>,
    /// Keep at most N rows.
    #[arg(long, value_name = "N")]
    max_rows: Option<u64>,
    /// Also write reworded copies of the rows kept, by the rules of this TOML file
    /// (configs/technical-rewrites.toml is one).
    #[arg(long, value_name = "FILE")]
    rewrites: Option<PathBuf>,
    /// Stop at the first malformed line, writing nothing, instead of skipping and counting it.
    #[arg(long)]
    strict: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Preset {
    /// 50 to 400 characters, at least 8 spaces, no leading link (http, www, ftp), at most 10 % full stops,
    /// duplicates by the first 100 characters, at most 50,000 rows.
    Technical,
}

/// How many malformed lines are shown one by one.
const SHOWN_ERRORS: u64 = 5;

/// Runs `mor data`.
///
/// # Errors
/// When a file cannot be read or written, a line is malformed under `--strict`, or no row is left.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Prepare(args) => prepare(&args),
    }
}

impl Prepare {
    fn filter(&self) -> Filter {
        let base = match self.preset {
            Some(Preset::Technical) => Filter::technical(),
            None => Filter::default(),
        };
        Filter {
            min_chars: self.min_chars.or(base.min_chars),
            max_chars: self.max_chars.or(base.max_chars),
            min_spaces: self.min_spaces.or(base.min_spaces),
            reject_prefixes: self.reject_prefix.clone().unwrap_or(base.reject_prefixes),
            max_full_stops: self.max_full_stops.or(base.max_full_stops),
            dedup_chars: self.dedup_chars.or(base.dedup_chars),
            max_rows: self.max_rows.or(base.max_rows),
        }
    }
}

fn prepare(args: &Prepare) -> Result<()> {
    let mut selection = Selection::new(args.filter())?;
    let mut rewrites = args.rewrites.as_deref().map(Rewrites::open).transpose()?;
    refuse_overwriting_input(&args.input, &args.output)?;
    let mut output = AtomicFile::create(&args.output)?;
    let progress = progress(&args.input);

    let mut rows = Rows::new(&args.input);
    while let Some(row) = rows.next() {
        match row {
            Ok(row) => {
                if selection.admit(&row).is_ok() {
                    write_row(&mut output, &row)?;
                    for copy in rewrites.iter_mut().flat_map(|rules| rules.copies(&row)) {
                        write_row(&mut output, &copy)?;
                    }
                }
            }
            Err(error) if error.is_malformed() && !args.strict => {
                selection.count_malformed();
                if selection.report().malformed <= SHOWN_ERRORS {
                    progress.suspend(|| note!("warning: skipped {error}"));
                }
            }
            Err(error) => return Err(error.into()),
        }
        progress.set_position(rows.bytes());
    }
    progress.finish_and_clear();

    let report = selection.report();
    if report.kept == 0 {
        bail!(
            "no row is left, {} was not written: {}",
            args.output.display(),
            if report.rows == 0 {
                "the input has none".to_owned()
            } else {
                summary(report)
            }
        );
    }
    output.commit()?;

    let copies: Vec<(&str, u64)> = rewrites.iter().flat_map(Rewrites::made).collect();
    let mut stdout = std::io::stdout().lock();
    if args.json {
        let copies: serde_json::Map<_, _> = copies
            .iter()
            .map(|&(name, made)| (name.to_owned(), made.into()))
            .collect();
        let output = args.output.display().to_string();
        let report = json!({ "output": output, "report": report, "copies": copies });
        writeln!(stdout, "{report:#}")?;
    } else {
        write!(stdout, "{}", table(report, &copies))?;
        writeln!(
            stdout,
            "{}: {} of text",
            args.output.display(),
            HumanBytes(report.kept_bytes)
        )?;
    }
    Ok(())
}

fn write_row(output: &mut impl Write, row: &Conversation) -> Result<()> {
    serde_json::to_writer(&mut *output, row)?;
    Ok(output.write_all(b"\n")?)
}

/// Preparing a file in place would work, and lose the rows that were dropped.
fn refuse_overwriting_input(inputs: &[PathBuf], output: &Path) -> Result<()> {
    let Ok(target) = output.canonicalize() else {
        return Ok(());
    };
    if inputs
        .iter()
        .any(|input| input.canonicalize().is_ok_and(|input| input == target))
    {
        bail!(
            "{} is an input too: the rows it drops would be lost; write to another file",
            output.display()
        );
    }
    Ok(())
}

/// A bar over the bytes of all inputs; hidden when standard error is not a terminal.
fn progress(inputs: &[PathBuf]) -> ProgressBar {
    let total = inputs
        .iter()
        .filter_map(|path| path.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

/// The rows kept, dropped and copied, with the share of each.
fn table(report: &FilterReport, copies: &[(&str, u64)]) -> String {
    let share = |count: u64| 100.0 * count as f64 / (report.rows.max(1)) as f64;
    let line = |name: &str, count: u64| {
        format!(
            "{name:<32}{:>12}  {:>5.1} %\n",
            HumanCount(count).to_string(),
            share(count)
        )
    };
    let mut table = line("rows", report.rows);
    for reason in Reason::ALL {
        table += &line(&format!("  {}", reason.describe()), report.dropped(reason));
    }
    table += &line("kept", report.kept);
    for (name, made) in copies {
        table += &line(&format!("  copies, {name}"), *made);
    }
    if report.malformed > 0 {
        table += &format!(
            "{:<32}{:>12}\n",
            "malformed lines",
            HumanCount(report.malformed).to_string()
        );
    }
    table
}

/// The reasons that dropped anything, on one line.
fn summary(report: &FilterReport) -> String {
    let reasons: Vec<String> = Reason::ALL
        .iter()
        .filter(|&&reason| report.dropped(reason) > 0)
        .map(|&reason| format!("{} {}", report.dropped(reason), reason.describe()))
        .collect();
    reasons.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Prepare,
    }

    /// Parses a command line, with `{}` standing for `folder`.
    fn parse(folder: &Path, line: &str) -> Prepare {
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
        let changed = filter(
            "--input a --output c --preset technical --min-spaces 0 --reject-prefix ssh,git",
        );
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
        let good = r#"{"messages":[{"role":"user","content":"q"}],"source":"s","licence":"MIT"}"#;
        std::fs::write(path("in.jsonl"), format!("{good}\nbroken\n")).unwrap();
        std::fs::write(path("empty.txt"), "\r\n\n").unwrap();
        let run =
            |line: &str| prepare(&parse(folder.path(), line)).map_err(|error| format!("{error:#}"));

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
                .contains("is an input too")
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
}
