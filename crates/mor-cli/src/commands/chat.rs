//! `mor chat`: a conversation in the terminal.

mod input;
mod lines;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use mor_engine::{
    ChatOptions, ChatSession, Context, EngineError, FinishReason, GenerationConfig, Overflow,
};
use mor_text::Tokenizer;
use pollster::block_on;

use super::depth;
use super::device::Placement;
use super::inference::{Continuation, Execution, Sampling, mean_depth};
use crate::output::printable;
use input::Input;
use lines::Damage;

const HELP: &str = "/new starts anew, /depth N sets the steps per layer, /depth 1.6 the mean loops of a model with gates, /quit \
                    ends; a message that starts with a slash is written with two";

/// Chat with a model in the terminal.
///
/// Answers appear as they are made, sampled as the model's generation_config.json says unless options
/// say otherwise. After each, a line tells its tokens, speed and depth. Commands:
/// /new starts anew, /depth N sets the steps per layer (/depth alone: as configured), /help lists them, /quit ends.
/// A message that starts with a slash is written with two.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  mor chat --model models/technical-10m --temperature 0.7 --top-p 0.9"
)]
pub(crate) struct Args {
    /// Model folder.
    #[arg(long, value_name = "DIR", default_value = "models/technical-10m")]
    model: PathBuf,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    continuation: Continuation,
    #[command(flatten)]
    execution: Execution,
}

/// Converses until the input ends.
pub(crate) fn run(args: Args) -> Result<()> {
    let generation = GenerationConfig::from_dir(&args.model)?;
    let defaults = generation.defaults();
    let options = ChatOptions {
        sampling: args.sampling.over(&defaults)?,
        max_new_tokens: args.sampling.new_tokens(&defaults),
        overflow: args.continuation.overflow(Overflow::Stop),
    };
    let routing = args.continuation.routing();
    let (context, placement) = args.execution.context(&args.model, routing)?;
    let tokenizer = Arc::new(Tokenizer::from_dir(&args.model)?);
    let mut session = ChatSession::new(context, tokenizer)?;
    session.end_also_at(generation.end_ids());
    let interactive = std::io::stdin().is_terminal();
    if interactive {
        let device = session.context().device();
        note!("{} on {device}: {HELP}", args.model.display());
    }
    let mut stdin = std::io::stdin().lock();
    loop {
        if interactive {
            let _ = write!(std::io::stderr(), "> ");
        }
        let Some(line) = lines::next(&mut stdin).context("standard input")? else {
            return Ok(());
        };
        match line.damage {
            None => {}
            Some(Damage::NotUtf8) => {
                note!("(the line is not UTF-8: what could not be read became U+FFFD)");
            }
            Some(Damage::TooLong) => {
                note!("the line is too long for a message; shorten it");
                continue;
            }
        }
        match Input::of(&line.text) {
            Input::Nothing => {}
            Input::Quit => return Ok(()),
            Input::New => session.clear(),
            Input::Help => note!("{HELP}"),
            Input::Depth(steps) => set_depth(&mut session, steps, &placement)?,
            Input::Unknown(word) => note!("{word} is no command: {HELP}"),
            Input::Message(text) => answer(&mut session, text, options, &placement)?,
        }
    }
}

/// Obeys `/depth`; what is wrong with it is told, and the conversation goes on.
fn set_depth(session: &mut ChatSession, argument: &str, placement: &Placement) -> Result<()> {
    let depth = match depth::in_chat(argument) {
        Ok(depth) => depth,
        Err(problem) => {
            note!("{problem}");
            return Ok(());
        }
    };
    while let Err(error) = block_on(session.set_depth(depth)) {
        if matches!(session.context(), Context::Cpu(_)) || !error.is_of_device() {
            note!("{error}");
            break;
        }
        recover(session, error, placement)?;
    }
    Ok(())
}

/// Puts another context in place of one that failed; an answer goes on where it was.
fn recover(session: &mut ChatSession, error: EngineError, placement: &Placement) -> Result<()> {
    session.replace_context(placement.recover(error, session.context())?);
    Ok(())
}

fn answer(
    session: &mut ChatSession,
    text: &str,
    options: ChatOptions,
    placement: &Placement,
) -> Result<()> {
    let start = Instant::now();
    let started = loop {
        match block_on(session.ask(text, options)) {
            Ok(started) => break started,
            Err(error) if error.is_of_device() => recover(session, error, placement)?,
            // A message too long for the context is the user's to shorten.
            Err(error) => {
                note!("{error}");
                return Ok(());
            }
        }
    };
    if started.dropped_messages > 0 {
        note!(
            "({} oldest messages no longer fit)",
            started.dropped_messages
        );
    }
    let mut out = crate::output::stdout();
    let (mut first, mut depth) = (None, 0.0);
    loop {
        let piece = match block_on(session.next_piece()) {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                recover(session, error, placement)?;
                continue;
            }
        };
        first.get_or_insert_with(|| start.elapsed());
        depth += mean_depth(&piece.steps);
        write!(out, "{}", printable(&piece.text))?;
        out.flush()?;
    }
    let total = start.elapsed();
    let reply = session.stop();
    writeln!(out)?;
    let Some(first) = first else {
        let why = match reply.finish {
            Some(FinishReason::Stop) => "the model ended its answer at once",
            Some(FinishReason::Context) => "the context is full",
            Some(FinishReason::Length) | None => "no tokens were asked for",
        };
        note!("[no answer: {why}]");
        return Ok(());
    };
    let tokens = reply.tokens as f64;
    let decoding = (total - first).as_secs_f64();
    // The first token came with the prompt.
    let speed = (tokens - 1.0) / decoding.max(1e-9);
    let speed = if reply.tokens > 1 {
        format!("{speed:.0} tokens/s, ")
    } else {
        String::new()
    };
    let blank = match reply.text.trim().is_empty() {
        true => ", all of them blank",
        false => "",
    };
    note!(
        "[{tokens} tokens{blank}, {speed}first after {:.0} ms, {:.1} steps per layer, {}]",
        first.as_secs_f64() * 1e3,
        depth / tokens,
        reply.finish.map_or("stopped", |reason| reason.name()),
    );
    Ok(())
}
