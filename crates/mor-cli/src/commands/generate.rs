//! `mor generate`: continue a text.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use mor_engine::{
    Context, EngineError, GenerateOptions, GeneratedToken, GenerationConfig, Generator, Overflow,
};
use mor_text::{Message, Role, TokenStream, Tokenizer};
use pollster::block_on;
use serde::Serialize;

use super::inference::{Continuation, Execution, Sampling};
use crate::output::printable;

/// Continue a text, or answer one message.
///
/// The continuation is printed as it is made, sampled as the model's generation_config.json says unless options say
/// otherwise. It ends at an end token (`eos_token_id` in generation_config.json),
/// at the end of a turn if the prompt is text, or after --max-new-tokens.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  mor generate --model models/technical-10m --chat --prompt 'How do I list the contents of a tar file?'\n  \
    mor generate --model DIR --prompt-ids 1,5,9 --json"
)]
pub(crate) struct Args {
    /// Model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    prompt: Prompt,
    /// Treat the prompt as a user's message and write the answer.
    #[arg(long, conflicts_with = "prompt_ids")]
    chat: bool,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    continuation: Continuation,
    #[command(flatten)]
    execution: Execution,
    /// Print one JSON object: text, ids, and the steps taken for each token.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Prompt {
    /// Text to continue.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Token ids to continue, separated by commas; no tokenizer is needed for these.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    prompt_ids: Option<Vec<u32>>,
}

#[derive(Serialize)]
struct Json {
    prompt_ids: Vec<u32>,
    generated_ids: Vec<u32>,
    /// Missing where there is no tokenizer.
    text: Option<String>,
    /// `[token][layer]`, or `[token][1]` for a shared block.
    steps_per_token: Vec<Vec<u8>>,
    probabilities: Vec<f32>,
    finish_reason: &'static str,
    /// What computed it.
    device: String,
    tokens_per_second: f64,
}

/// Generates and prints.
pub(crate) fn run(args: Args) -> Result<()> {
    let generation = GenerationConfig::from_dir(&args.model)?;
    let defaults = generation.defaults();
    let sampling = args.sampling.over(&defaults)?;
    let routing = args.continuation.routing();
    let (mut context, placement) = args.execution.context(&args.model, routing)?;
    let has_tokenizer = args.model.join(mor_text::TOKENIZER_FILE).exists();
    // Ids are enough for a model that has no tokenizer.
    let tokenizer = if has_tokenizer || args.prompt.prompt_ids.is_none() {
        Some(Tokenizer::from_dir(&args.model)?)
    } else {
        None
    };
    if let Some(tokenizer) = &tokenizer {
        check_fit(&context, tokenizer)?;
    }
    let prompt = prompt_ids(&args, tokenizer.as_ref())?;
    if prompt.is_empty() {
        bail!("the prompt is empty; give some text with --prompt");
    }
    let (tokens, limit) = (prompt.len(), context.capacity());
    if tokens > limit {
        bail!("the prompt has {tokens} tokens, and this model's context holds {limit}; shorten it");
    }
    let mut stop_ids = generation.end_ids().to_vec();
    // Bare ids may be of another format: what ends a turn in a chat does not end them.
    if let (Some(tokenizer), Some(_)) = (&tokenizer, &args.prompt.prompt) {
        stop_ids.extend(tokenizer.stop_ids());
    }
    let options = GenerateOptions {
        sampling,
        max_new_tokens: args.sampling.new_tokens(&defaults),
        stop_ids,
        overflow: args.continuation.overflow(Overflow::Slide),
    };
    let mut generator = placement.surely(&mut context, |context| {
        block_on(Generator::start(context, &prompt, options.clone()))
    })?;
    let mut stream = tokenizer.as_ref().map(TokenStream::new);
    let mut out = crate::output::stdout();
    let mut tokens: Vec<GeneratedToken> = Vec::new();
    let mut text = String::new();
    let start = Instant::now();
    // Where a device fails, the generation goes on where it was, in another context.
    while let Some(token) = placement.surely(&mut context, |context| {
        block_on(generator.next_token(context))
    })? {
        let piece = stream.as_mut().and_then(|stream| stream.push(token.id));
        if let Some(piece) = piece {
            text.push_str(&piece);
            if !args.json {
                write!(out, "{}", printable(&piece))?;
                out.flush()?;
            }
        }
        tokens.push(token);
    }
    // Among bare ids the end token is one of them, as in other programs.
    if args.prompt.prompt_ids.is_some() {
        tokens.extend(generator.end_token().cloned());
    }
    let seconds = start.elapsed().as_secs_f64();
    let rest = stream
        .as_mut()
        .and_then(TokenStream::finish)
        .unwrap_or_default();
    text.push_str(&rest);
    if !args.json {
        if tokenizer.is_some() {
            writeln!(out, "{}", printable(&rest))?;
        } else {
            let ids: Vec<String> = tokens.iter().map(|token| token.id.to_string()).collect();
            writeln!(out, "{}", ids.join(","))?;
        }
        if let Some(tokenizer) = tokenizer.as_ref().filter(|_| text.trim().is_empty()) {
            note!(
                "{}",
                why_blank(&generator, tokenizer, tokens.len(), args.chat)
            );
        }
        return Ok(());
    }
    let json = Json {
        prompt_ids: prompt,
        generated_ids: tokens.iter().map(|token| token.id).collect(),
        text: tokenizer.is_some().then_some(text),
        probabilities: tokens.iter().map(|token| token.probability).collect(),
        device: context.device(),
        tokens_per_second: tokens.len() as f64 / seconds.max(1e-9),
        steps_per_token: tokens.into_iter().map(|token| token.steps).collect(),
        finish_reason: generator
            .finish_reason()
            .map_or("stopped", |reason| reason.name()),
    };
    writeln!(out, "{}", serde_json::to_string(&json)?)?;
    Ok(())
}

/// Why there is nothing to read, which may look like a fault.
fn why_blank(generator: &Generator, tokenizer: &Tokenizer, tokens: usize, chat: bool) -> String {
    let advice = match chat {
        true => "",
        false => "; with --chat the prompt is a question that it answers",
    };
    match (tokens, generator.end_token()) {
        (0, Some(end)) => {
            let name = String::from_utf8_lossy(tokenizer.token_bytes(end.id));
            format!("the model ended its text at once, with {name}{advice}")
        }
        (0, None) => "no tokens were asked for".to_owned(),
        _ => format!("the model wrote {tokens} token(s) and no text{advice}"),
    }
}

fn check_fit(context: &Context, tokenizer: &Tokenizer) -> Result<()> {
    let (tokens, rows) = (tokenizer.vocab_size(), context.config().vocab_size);
    if !tokenizer.fits(rows) {
        return Err(EngineError::TokenizerMismatch {
            tokenizer: tokens,
            model: rows,
        }
        .into());
    }
    Ok(())
}

fn prompt_ids(args: &Args, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
    if let Some(ids) = &args.prompt.prompt_ids {
        return Ok(ids.clone());
    }
    let (Some(text), Some(tokenizer)) = (&args.prompt.prompt, tokenizer) else {
        return Err(anyhow!("no prompt was given"));
    };
    if args.chat {
        let message = Message::new(Role::User, text.clone());
        return Ok(tokenizer.encode_chat(&[message], true)?);
    }
    let mut ids: Vec<u32> = tokenizer.bos_id().into_iter().collect();
    ids.extend(tokenizer.encode(text)?);
    Ok(ids)
}
