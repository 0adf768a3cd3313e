//! Greedy answers of a model in a folder, on the GPU and on the CPU.

use std::path::Path;
use std::sync::Arc;

use mor_config::{ModelConfig, WEIGHTS_FILE, Weights};
use mor_engine::gpu::{GpuDecoder, GpuModel};
use mor_engine::{DecodeOptions, Decoder, LoadOptions, Model, SamplingOptions, WeightPrecision};
use mor_text::{Message, Role, Tokenizer};
use pollster::block_on;

use crate::agreement::inference_gpu;
use crate::{Check, Context, Outcome, Problem};

/// Answers that are compared.
const ANSWERS: usize = 20;
/// Tokens of an answer.
const TOKENS: usize = 64;
/// Longest question, in tokens.
const LONGEST: usize = 60;
/// Tokens whose logits are nearer to one another than this are equally likely, up to rounding.
const TIE: f32 = 1e-3;

/// Conversations whose questions are asked, from data that the shipped model was not trained on.
const CONVERSATIONS: &str = include_str!("../../../tests/data/technical-sample-valid.jsonl");

pub(crate) fn run(context: &mut Context) -> Outcome {
    let Some(folder) = context.options.model.clone() else {
        let reason =
            "no model: none was found beside the program; name its folder with --model DIR";
        return Err(Problem::Skipped(reason.to_owned()));
    };
    let tokenizer = Tokenizer::from_dir(&folder)?;
    let (mut cpu, mut gpu) = (on_cpu(&folder)?, on_gpu(context, &folder)?);
    let prompts = questions(&tokenizer, LONGEST.min(cpu.capacity()))?;
    if prompts.is_empty() {
        let reason = "no question of the self-test fits this model's context";
        return Err(Problem::Skipped(reason.to_owned()));
    }
    let mut check = Check::new(format!("answers of {}", folder.display()), None, None);
    check.variant = Some(gpu.gpu().variant().name().to_owned());
    let mut ties = 0;
    for (at, prompt) in prompts.iter().enumerate() {
        // Without at least one, nothing was compared.
        if at > 0 && context.budget.is_over() {
            check.cases_left_out += 1;
            continue;
        }
        let expected = answer_on_cpu(&mut cpu, prompt)?;
        let found = answer_on_gpu(&mut gpu, prompt, expected.len())?;
        let apart = expected.iter().zip(&found).position(|(a, b)| a != b);
        let Some(apart) = apart else {
            check.exact(true, String::new);
            continue;
        };
        // Two tokens may be equally likely, up to rounding; after them the answers are about different texts.
        cpu.set_context(&[prompt.as_slice(), &expected[..apart]].concat())?;
        let logit = |id: u32| cpu.logits().get(id as usize).copied();
        let gap = logit(expected[apart]).zip(logit(found[apart]));
        let gap = gap.map_or(f32::INFINITY, |(best, chosen)| best - chosen);
        ties += usize::from(gap <= TIE);
        check.exact(gap <= TIE, || {
            format!(
                "answer {at}, token {apart}: {} is chosen, whose logit is {gap} below that of {}",
                found[apart], expected[apart]
            )
        });
    }
    if ties > 0 {
        let differ = if ties == 1 { "differs" } else { "differ" };
        check.what = format!("{}; {ties} of them {differ} at a tie", check.what);
    }
    context.found.checks.push(check);
    Ok(())
}

/// Questions of fewer than `most` tokens, as the model reads them.
fn questions(tokenizer: &Tokenizer, most: usize) -> Outcome<Vec<Vec<u32>>> {
    let mut prompts = Vec::new();
    for line in CONVERSATIONS.lines() {
        let row: serde_json::Value = serde_json::from_str(line)?;
        let content = row["messages"][0]["content"].as_str().unwrap_or_default();
        let message = Message::new(Role::User, content.to_owned());
        let ids = tokenizer.encode_chat(&[message], true)?;
        if ids.len() < most {
            prompts.push(ids);
        }
        if prompts.len() == ANSWERS {
            break;
        }
    }
    Ok(prompts)
}

fn on_cpu(folder: &Path) -> Outcome<Decoder> {
    let model = Model::load_with(folder, LoadOptions::default())?;
    Ok(Decoder::new(Arc::new(model), DecodeOptions::default())?)
}

fn on_gpu(context: &Context, folder: &Path) -> Outcome<GpuDecoder> {
    let gpu = inference_gpu(context, None)?;
    let config = ModelConfig::from_dir(folder)?;
    let weights = Weights::open(&folder.join(WEIGHTS_FILE))?;
    let model = GpuModel::from_parts(gpu, config, &weights, WeightPrecision::AsStored);
    let model = Arc::new(block_on(model)?);
    Ok(block_on(GpuDecoder::new(model, DecodeOptions::default()))?)
}

/// The likeliest tokens after the prompt, one after the other; stop tokens end nothing, so that all answers are long.
fn answer_on_cpu(decoder: &mut Decoder, prompt: &[u32]) -> Outcome<Vec<u32>> {
    decoder.set_context(prompt)?;
    let mut answer = Vec::new();
    while answer.len() < TOKENS && decoder.ids().len() < decoder.capacity() {
        let logits = (0..).zip(decoder.logits());
        let best = logits.fold((0, f32::NEG_INFINITY), |best, (id, logit)| {
            match *logit > best.1 {
                true => (id, *logit),
                false => best,
            }
        });
        answer.push(best.0);
        decoder.push(best.0)?;
    }
    Ok(answer)
}

fn answer_on_gpu(decoder: &mut GpuDecoder, prompt: &[u32], tokens: usize) -> Outcome<Vec<u32>> {
    let greedy = SamplingOptions::default();
    block_on(decoder.set_context(prompt))?;
    let mut answer = Vec::new();
    while answer.len() < tokens {
        let id = block_on(decoder.sample(&greedy, 0.0))?.id;
        answer.push(id);
        if answer.len() < tokens {
            block_on(decoder.push(id))?;
        }
    }
    Ok(answer)
}
