//! `mor data prepare`: filters, weights, a split, and rows or tokens.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use mor_config::ModelConfig;
use mor_files::{PathCheck, is_standard_output};
use mor_text::data::{
    Columns, Document, Documents, Filter, FolderContents, Rewrites, Selection, is_held_out,
    times_taken,
};
use mor_text::{Conversation, Tokenizer};
use serde_json::{Value, json};

use super::input::Input;
use super::sink::Sink;
use super::{SHOWN_ERRORS, folders, report};
use crate::commands::{MODEL_FILES, Usage};
use crate::output;

/// Filter data files into one file of training rows, or of tokens.
///
/// Reads what datasets are published as, told by content and not by name: JSON lines or arrays of chat
/// messages, ShareGPT, UltraChat, preference data (its chosen answers), Alpaca or rows of a question and an
/// answer, tables (CSV, TSV) of the same, and plain text, also compressed with gzip or zstd; of a folder, every
/// file in it. Keeps the rows that meet every condition, and writes them as chat JSON lines with their
/// source and licence; a row that names no source has its file's name. A line of plain text becomes a
/// conversation of one assistant message. Without a preset and without options every well-formed row that has
/// an answer is kept.
///
/// With --tokenizer it writes a token file, which `mor train` maps into memory. There each plain-text file
/// stays one running text, to which the conditions do not apply; its pieces count as rows in the table.
///
/// Conditions look at the contents of a row's messages, joined by a line break. The table says how many rows
/// each condition dropped; a row counts under the first one it fails, in the table's order.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    mor data prepare --input raw.jsonl --output train.jsonl --preset technical\n  \
    mor data prepare --input chat.json.gz alpaca.json=0.5 --dedup --output train.jsonl --valid valid.jsonl\n  \
    mor data prepare --input train.jsonl book.txt --tokenizer models/mine --output train.tokens")]
pub(super) struct Args {
    /// Files or folders to read. With a weight, each row is taken so often: 2 is twice, 0.5 a half of the rows.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE[=WEIGHT]")]
    input: Vec<Input>,
    /// File to write; it appears when all is read, whole or not at all. Rows may also go to a FIFO or a device, as they are
    /// written; where that is standard output, the report goes to standard error.
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
    /// Drop rows whose whole conversation was seen before, but for white space.
    #[arg(long)]
    dedup: bool,
    /// Keep at most N rows.
    #[arg(long, value_name = "N")]
    max_rows: Option<u64>,
    /// Also write reworded copies of the rows kept, by the rules of this TOML file
    /// (configs/technical-rewrites.toml is one).
    #[arg(long, value_name = "FILE")]
    rewrites: Option<PathBuf>,
    /// Also write this file, with conversations that are held out of the output for validation. Those whose
    /// first questions are the same stay together, and so do reworded copies. Weights do not repeat rows
    /// here.
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// The share of conversations held out, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.02, requires = "valid")]
    valid_share: f64,
    /// Columns of tables (CSV, TSV), instead of those that are known: user=…,assistant=… and, if there is one,
    /// system=….
    #[arg(long, value_name = "ROLE=COLUMN,…")]
    columns: Option<Columns>,
    /// Write token files, with the tokenizer and chat template of this model folder.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Also count the conversations that are longer than a context of N tokens, whose ends training drops
    /// [default: that of the config.json beside the tokenizer, if there is one].
    #[arg(long, value_name = "N", requires = "tokenizer", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Which rows weights and split choose.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Stop at the first malformed row, writing nothing, instead of skipping and counting it.
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

impl Args {
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
            dedup: self.dedup || base.dedup,
            max_rows: self.max_rows.or(base.max_rows),
        }
    }
}

/// The files that are written, and what decides which row goes where.
struct Outputs<'a> {
    args: &'a Args,
    train: Sink<'a>,
    valid: Option<Sink<'a>>,
    rewrites: Option<Rewrites>,
    /// Reworded copies left out since their question belongs to the other file.
    straddling: u64,
    /// The first row that is malformed.
    first_problem: Option<String>,
}

/// Runs `mor data prepare`.
///
/// # Errors
/// As [`super::run`].
pub(super) fn run(args: &Args) -> Result<()> {
    args.check()?;
    let mut selection = Selection::new(args.filter())?;
    let rewrites = args.rewrites.as_deref().map(Rewrites::open).transpose()?;
    let tokenizer = args.tokenizer.as_deref().map(Tokenizer::from_dir);
    let tokenizer = tokenizer.transpose()?;
    let (inputs, folders) = args.files()?;
    let paths: Vec<PathBuf> = inputs.iter().map(|input| input.path.clone()).collect();
    let create = |path: &Path| Sink::create(path, &paths, tokenizer.as_ref(), args.strict);
    let mut outputs = Outputs {
        args,
        train: create(&args.output)?,
        valid: args.valid.as_deref().map(create).transpose()?,
        rewrites,
        straddling: 0,
        first_problem: None,
    };
    let progress = super::progress(&paths);
    let mut finished_bytes = 0;
    for input in &inputs {
        let path = std::slice::from_ref(&input.path);
        let documents = if tokenizer.is_some() {
            Documents::new(path)
        } else {
            Documents::of_lines(path)
        };
        let mut documents = documents.with_columns(args.columns.clone());
        let mut is_text = false;
        while let Some(document) = documents.next() {
            match document {
                Ok(Document::Text(piece)) if tokenizer.is_some() => {
                    is_text = true;
                    let (source, bytes) = (piece.source.clone(), piece.text.len());
                    let piece = Document::Text(piece);
                    let taken = outputs.push_text(piece, input.weight.min(1.0), true)?;
                    selection.count_text(&source, bytes, taken);
                }
                Ok(document) => {
                    let row = document.into_row();
                    selection.count_unused(documents.unused());
                    let times = times_taken(&row, input.weight, args.seed);
                    if selection.admit_weighted(&row, times > 0).is_ok() {
                        outputs.push(row, times)?;
                    }
                }
                Err(error) if error.is_malformed() && !args.strict => {
                    selection.count_malformed(documents.source());
                    let first = &mut outputs.first_problem;
                    first.get_or_insert_with(|| error.to_string());
                    if selection.report().malformed <= SHOWN_ERRORS {
                        progress.suspend(|| {
                            note!("warning: skipped {}", output::name(&error.to_string()))
                        });
                    }
                }
                Err(error) => return Err(error.into()),
            }
            progress.set_position(finished_bytes + documents.bytes());
        }
        finished_bytes += documents.bytes();
        // A running text is repeated as a whole, so that its pieces still follow one another.
        let mut weight = input.weight - 1.0;
        while is_text && weight > 0.0 {
            for piece in Documents::new(path) {
                outputs.push_text(piece?, weight.min(1.0), false)?;
            }
            weight -= 1.0;
        }
    }
    progress.finish_and_clear();
    outputs.finish(&selection, &folders)
}

impl Outputs<'_> {
    /// Writes a row, and its reworded copies, so many times.
    fn push(&mut self, row: Conversation, times: u64) -> Result<()> {
        let (share, seed) = (self.args.valid_share, self.args.seed);
        let split = self.valid.is_some();
        let is_held_out = |row: &Conversation| split && is_held_out(row, share, seed);
        let held_out = is_held_out(&row);
        let copies: Vec<_> = self
            .rewrites
            .iter_mut()
            .flat_map(|it| it.copies(&row))
            .collect();
        let count = copies.len() as u64;
        // A copy may ask what another row asks, which went to the other file.
        let copies = copies
            .into_iter()
            .filter(|copy| is_held_out(copy) == held_out);
        let rows: Vec<_> = std::iter::once(row).chain(copies).collect();
        self.straddling += count + 1 - rows.len() as u64;
        let (sink, times) = match &mut self.valid {
            Some(valid) if held_out => (valid, 1),
            _ => (&mut self.train, times),
        };
        for row in rows {
            for _ in 1..times {
                sink.push(Document::Conversation(row.clone()))?;
            }
            sink.push(Document::Conversation(row))?;
        }
        Ok(())
    }

    /// Writes a piece of a running text, if it is one of the share that a weight up to 1 takes, and says whether.
    /// Pieces that are held out are written the `first` time only.
    fn push_text(&mut self, piece: Document, weight: f64, first: bool) -> Result<bool> {
        let row = piece.clone().into_row();
        let (share, seed) = (self.args.valid_share, self.args.seed);
        if times_taken(&row, weight, seed) == 0 {
            return Ok(false);
        }
        match &mut self.valid {
            Some(valid) if is_held_out(&row, share, seed) => {
                if first {
                    valid.push(piece)?;
                }
            }
            _ => self.train.push(piece)?,
        }
        Ok(true)
    }

    /// Gives the files their names, and reports.
    fn finish(self, selection: &Selection, folders: &[FolderContents]) -> Result<()> {
        let (args, report) = (self.args, selection.report());
        if self.train.rows == 0 {
            bail!(
                "no row is left, {} was not written: {}",
                args.output.display(),
                match (report.rows, report.kept) {
                    (0, _) => "the input has none".to_owned(),
                    (_, 0) => {
                        let first = self.first_problem.as_ref();
                        let first =
                            first.map(|first| format!("; the first malformed row: {first}"));
                        report::summary(report) + &first.unwrap_or_default()
                    }
                    _ => "all rows were held out; lower --valid-share".to_owned(),
                }
            );
        }
        if let Some(valid) = self.valid.as_ref().filter(|valid| valid.rows == 0) {
            let path = args.valid.as_deref().unwrap_or(&args.output).display();
            let kept = self.train.rows + valid.rows;
            bail!("none of {kept} row(s) was held out for {path}; raise --valid-share");
        }
        let context = args.known_context();
        let valid = self.valid.map(|valid| valid.finish(context));
        let valid = valid.transpose()?;
        let train = self.train.finish(context)?;

        let copies: Vec<(&str, u64)> = self.rewrites.iter().flat_map(Rewrites::made).collect();
        let files: Vec<_> = std::iter::once(&train).chain(&valid).collect();
        // Rows that go to standard output stay among themselves.
        let mut outputs = std::iter::once(&args.output).chain(&args.valid);
        let rows_on_stdout = outputs.any(|path| is_standard_output(path));
        let tell = |text: String| match rows_on_stdout {
            true => {
                note!("{text}");
                Ok(())
            }
            false => output::print(&text),
        };
        if args.json {
            let copies: serde_json::Map<_, _> = copies
                .iter()
                .map(|&(name, made)| (name.to_owned(), made.into()))
                .collect();
            let report = json!({
                "output": args.output.display().to_string(),
                "folders": folders::report(folders),
                "report": report,
                "sources": selection.by_source(),
                "copies": copies,
                "copies_left_out": self.straddling,
                "train": train,
                "valid": valid,
            });
            return tell(serde_json::to_string_pretty(&report)?);
        }
        let mut text = report::table(report, &copies);
        if self.straddling > 0 {
            let count = self.straddling;
            text += &format!(
                "  {count} of the copies left out: their questions belong to the other file\n"
            );
        }
        text += &format!("\n{}", report::sources(selection.by_source(), &files));
        for file in files {
            text += &format!("\n{}", written(file));
        }
        tell(text)
    }
}

/// A file that was written, on one line.
fn written(file: &Value) -> String {
    let path = output::name(file["path"].as_str().unwrap_or_default());
    let mut text = format!("{path}: {} rows", file["rows"]);
    if let Some(tokens) = file["tokens"].as_u64() {
        text += &format!(", {tokens} tokens");
    }
    if let Some(refused) = file["refused"].as_u64().filter(|&count| count > 0) {
        text += &format!(", {refused} refused by the chat template");
    }
    let beyond = &file["beyond_context"];
    if let Some(rows) = beyond["rows"].as_u64().filter(|&count| count > 0) {
        text += &format!(
            "; longer than the context of {}: {rows} rows, which lose {} tokens at their ends where conversations \
             are cut",
            beyond["context"], beyond["tokens"]
        );
    }
    text
}

impl Args {
    /// The files to read, those of folders one by one.
    fn files(&self) -> Result<(Vec<Input>, Vec<FolderContents>)> {
        let (mut inputs, mut folders) = (Vec::new(), Vec::new());
        for input in &self.input {
            let path = std::slice::from_ref(&input.path);
            let found = super::files(path, self.columns.as_ref())?;
            let weight = input.weight;
            inputs.extend(found.files.into_iter().map(|path| Input { path, weight }));
            folders.extend(found.folders);
        }
        Ok((inputs, folders))
    }

    /// The context of the model that the rows are for, where it is known.
    fn known_context(&self) -> Option<usize> {
        let folder = self.tokenizer.as_ref()?;
        let config = || ModelConfig::from_dir(folder).ok();
        self.context
            .map(|context| context as usize)
            .or_else(|| Some(config()?.max_position_embeddings))
    }
}

impl Args {
    /// Refuses what cannot be meant.
    fn check(&self) -> Result<()> {
        let outputs = || std::iter::once(&self.output).chain(&self.valid);
        let is_tokens = |path: &PathBuf| path.extension().is_some_and(|it| it == "tokens");
        if let Some(path) = outputs().find(|path| is_tokens(path))
            && self.tokenizer.is_none()
        {
            let path = path.display();
            bail!(Usage(format!(
                "{path} is to be a token file: give --tokenizer DIR"
            )));
        }
        if !(self.valid_share > 0.0 && self.valid_share < 1.0) {
            let share = self.valid_share;
            bail!(Usage(format!(
                "--valid-share is {share}; it lies between 0 and 1"
            )));
        }
        self.check_paths()
    }

    /// Refuses outputs that are the same file, or an input: the rows that are dropped would be lost.
    fn check_paths(&self) -> Result<()> {
        let mut check = PathCheck::new();
        for input in &self.input {
            check = check.reads("--input", &input.path);
        }
        if let Some(rules) = &self.rewrites {
            check = check.reads("--rewrites", rules);
        }
        if let Some(folder) = &self.tokenizer {
            check = check.reads_files("--tokenizer", folder, MODEL_FILES);
        }
        check = check.writes("--output", &self.output);
        if let Some(valid) = &self.valid {
            check = check.writes("--valid", valid);
        }
        Ok(check.check()?)
    }
}

#[cfg(test)]
mod tests;
