//! `mor info`: what a model is made of.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use mor_config::{Architecture, Budget, ModelConfig, Preset, RouterKind, Weights, check_tensors};
use serde::Serialize;

use super::inference::Subject;

/// Print a model's parameters, sizes and routing.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  mor info --model models/technical-10m\n  mor info --preset technical-card --json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json {
    name: String,
    /// By component.
    parameters: BTreeMap<&'static str, usize>,
    total_parameters: usize,
    /// Of `model.safetensors`.
    file_bytes: Option<usize>,
    /// Element types in it, with the number of values of each.
    stored: BTreeMap<String, usize>,
    config: ModelConfig,
}

/// Counts and prints.
pub(crate) fn run(args: Args) -> Result<()> {
    let json = describe(&args.subject)?;
    let mut out = crate::output::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&json)?)?;
        return Ok(());
    }
    let config = &json.config;
    let mut row = |label: &str, value: String| writeln!(out, "{label:<20} {value:>12}");
    row("model", json.name.clone())?;
    for (label, count) in &json.parameters {
        row(label, grouped(*count))?;
    }
    row("total parameters", grouped(json.total_parameters))?;
    row("layers", config.num_hidden_layers.to_string())?;
    row("width", config.hidden_size.to_string())?;
    row("heads", config.num_attention_heads.to_string())?;
    row("feed-forward width", config.intermediate_size.to_string())?;
    row("vocabulary", grouped(config.vocab_size))?;
    row(
        "context",
        format!("{} tokens", config.max_position_embeddings),
    )?;
    row(
        "positions",
        format!("{:?}", config.positions).to_lowercase(),
    )?;
    row("routing", routing(config))?;
    let head = if config.tie_word_embeddings {
        "tied to the embedding"
    } else {
        "its own"
    };
    row("output head", head.to_owned())?;
    if let Some(bytes) = json.file_bytes {
        let types: Vec<&str> = json.stored.keys().map(String::as_str).collect();
        row(
            "weights file",
            format!("{} bytes, {}", grouped(bytes), types.join(" and ")),
        )?;
    }
    Ok(())
}

fn describe(subject: &Subject) -> Result<Json> {
    let (name, config, weights) = match (&subject.model, &subject.preset) {
        (Some(folder), _) => {
            let config = ModelConfig::from_dir(folder)?;
            let weights = Weights::open(&folder.join(mor_config::WEIGHTS_FILE))?;
            check_tensors(&config, &weights)?;
            (folder.display().to_string(), config, Some(weights))
        }
        (None, Some(preset)) => (preset.clone(), preset.parse::<Preset>()?.config(), None),
        (None, None) => anyhow::bail!("give --model DIR or --preset NAME"),
    };
    let mut stored = BTreeMap::new();
    if let Some(weights) = &weights {
        for name in weights.names() {
            let dtype = format!("{:?}", weights.dtype(&name)?).to_lowercase();
            *stored.entry(dtype).or_insert(0) += weights.shape(&name)?.iter().product::<usize>();
        }
    }
    let count = config.parameter_count();
    let parameters = count
        .by_component
        .iter()
        .map(|(part, n)| (part.label(), *n))
        .collect();
    Ok(Json {
        name,
        parameters,
        total_parameters: count.total,
        file_bytes: weights.as_ref().map(Weights::file_len),
        stored,
        config,
    })
}

fn routing(config: &ModelConfig) -> String {
    let routing = &config.routing;
    let most = routing.max_steps;
    match (routing.kind, config.architecture) {
        (RouterKind::Adaptive, Architecture::Technical) => {
            format!("each layer chooses 0 to {most} steps")
        }
        (RouterKind::Adaptive, Architecture::Conversational) => {
            let classes: Vec<String> = routing.class_steps.iter().map(usize::to_string).collect();
            format!("chooses {} steps of the shared block", classes.join(", "))
        }
        (RouterKind::Adaptive, Architecture::Recursive) => {
            let budget = routing.budget.map_or(most as f64, Budget::mean);
            format!("each token takes 1 to {most} loops of the core, {budget} on average")
        }
        (RouterKind::Fixed, architecture) => {
            let depth = routing.depth.unwrap_or(most);
            let what = match architecture {
                Architecture::Technical => "in each layer",
                Architecture::Conversational => "of the shared block",
                Architecture::Recursive => "of the core",
            };
            format!("fixed: {depth} of at most {most} steps {what}")
        }
    }
}

/// Digits in groups of three.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (41_401_758, "41,401,758"),
        ] {
            assert_eq!(super::grouped(number), text);
        }
    }
}
