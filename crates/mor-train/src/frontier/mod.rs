//! What each way of deciding depth costs and gives, on the same text: bits per byte over executed operations.
//!
//! Gates have to beat every simpler rule: a fixed depth, chance, leaving where the prediction is sure, where the state has
//! stopped moving, by place or by how common the token is, and their own decisions given to other tokens. An oracle that
//! knows each token's loss at every depth shows what is left. Simple rules are fitted to the label that gates are fitted to,
//! on a part of the text that nothing is measured on.

mod bootstrap;
mod passes;
mod rules;

use mor_config::{Architecture, Budget, Depth, RouterKind};
use mor_model::{ForwardOptions, Model};
use serde::Serialize;

use crate::data::Dataset;
use crate::{Result, TrainError};
use bootstrap::difference;
use passes::{Known, Text};
use rules::Rule;

/// A rule at one mean depth.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `fixed`, `adaptive`, `random`, `entropy`, `displacement`, `position`, `frequency`, `shuffled` or `oracle`.
    pub rule: &'static str,
    /// The mean depth that was asked for.
    pub budget: f64,
    /// Loops of a token, on average.
    pub mean_depth: f64,
    /// Bits per byte of message content.
    pub bits_per_byte: f64,
    /// Difference to full depth in bits per byte.
    pub delta: f64,
    /// Between which 95 of 100 such differences lie, over sequences drawn anew.
    pub ci95: [f64; 2],
    /// Operations of a token in millions, head and whatever decides included.
    pub mflop_per_token: f64,
    /// Decoding speed; absent for rules that nothing decodes by.
    pub tokens_per_second: Option<f64>,
}

/// All rows, and how often each depth was taken at the configured budget.
#[derive(Clone, Debug, Serialize)]
pub struct Frontier {
    /// Rule by rule, by increasing budget.
    pub rows: Vec<Row>,
    /// Tokens that were measured.
    pub tokens: usize,
    /// Sequences that they are of.
    pub sequences: usize,
    /// How often each depth was taken at the configured budget; empty without gates.
    pub depths: Vec<usize>,
}

/// Measures every rule on documents drawn from `data`, about `tokens` tokens of them. `progress` hears the finished share.
///
/// # Errors
/// [`TrainError::Depth`] for a model that is not recursive, [`TrainError::Data`] where there is too little text, or
/// [`TrainError::Model`].
pub fn measure(
    model: &Model,
    data: &Dataset,
    tokens: usize,
    mut progress: impl FnMut(f64),
) -> Result<Frontier> {
    use burn::module::Module;

    let model = &model.valid();
    let config = model.config();
    let most = config.routing.max_steps;
    if config.architecture != Architecture::Recursive || most < 2 {
        return Err(TrainError::Depth(format!(
            "a frontier is measured of models of the family {} that can loop more than once",
            Architecture::Recursive.as_str()
        )));
    }
    let (fitted, measured) = passes::split(data, tokens);
    let (fit, text) = (
        Text::new(data, &fitted, config),
        Text::new(data, &measured, config),
    );
    if text.sequences < 10 || fit.sequences < 5 {
        return Err(TrainError::Data {
            path: data.path().to_owned(),
            problem: format!("has {} sequences to measure on, too few", text.sequences),
        });
    }
    let budgets: Vec<Budget> = budgets(most);
    let has_gates = config.routing.kind == RouterKind::Adaptive;
    let rules = Rule::ALL;
    let passes = (budgets.len() * (rules.len() + 3) + 6) as f64;
    let mut done = 0.0;
    let mut step = |more: f64| {
        done += more;
        progress((done / passes).min(1.0));
    };

    let known_of_fit = Known::new(model, &fit)?;
    let known = Known::new(model, &text)?;
    step(6.0);
    let full = known.nats_at(&text, |_| most);
    let row = |rule, budget: f64, depths: &[usize], nats: &[f64], flops: f64| {
        let (bits_per_byte, delta, ci95) = difference(nats, &full, &text.bytes);
        Row {
            rule,
            budget,
            mean_depth: text.mean(depths),
            bits_per_byte,
            delta,
            ci95,
            mflop_per_token: flops / text.tokens as f64 * 1e-6,
            tokens_per_second: None,
        }
    };
    let mut rows = Vec::new();
    for depth in 1..=most {
        let depths = vec![depth; text.positions()];
        let nats = known.nats_at(&text, |_| depth);
        rows.push(row(
            "fixed",
            depth as f64,
            &depths,
            &nats,
            text.flops(config, &depths, false),
        ));
    }
    let mut taken = Vec::new();
    let mut shuffled = Vec::new();
    for budget in budgets.iter().filter(|_| has_gates) {
        let options = ForwardOptions {
            depth: Depth::Budget(*budget),
            ..ForwardOptions::default()
        };
        let (nats, depths) = text.run(model, |_| options.clone())?;
        rows.push(row(
            "adaptive",
            budget.mean(),
            &depths,
            &nats,
            text.flops(config, &depths, true),
        ));
        let mixed = text.shuffle(&depths);
        let (nats, _) = text.run_at(model, &mixed)?;
        shuffled.push(row(
            "shuffled",
            budget.mean(),
            &mixed,
            &nats,
            text.flops(config, &mixed, true),
        ));
        step(2.0);
    }
    if has_gates {
        let (_, depths) = text.run(model, |_| ForwardOptions::default())?;
        taken = vec![0; most + 1];
        text.counted(&depths).for_each(|depth| taken[depth] += 1);
    }
    for rule in rules {
        let exits = rule.fit(&known_of_fit, &fit, most);
        for budget in &budgets {
            let depths = exits.depths(&known, &text, budget.mean());
            let (nats, _) = text.run_at(model, &depths)?;
            let flops =
                text.flops(config, &depths, false) + exits.extra_flops(config, &text, &depths);
            rows.push(row(rule.name(), budget.mean(), &depths, &nats, flops));
            step(1.0);
        }
    }
    rows.extend(shuffled);
    for budget in &budgets {
        let depths = known.oracle(&text, budget.mean());
        let nats = known.nats_at(&text, |at| depths[at]);
        rows.push(row(
            "oracle",
            budget.mean(),
            &depths,
            &nats,
            text.flops(config, &depths, false),
        ));
        step(1.0);
    }
    Ok(Frontier {
        rows,
        tokens: text.tokens,
        sequences: text.sequences,
        depths: taken,
    })
}

/// Eight budgets between one loop and all.
fn budgets(most: usize) -> Vec<Budget> {
    let tenths = (most - 1) as f64 * 10.0;
    let at = |part: usize| Budget::beyond_one((tenths * part as f64 / 9.0).round() as usize);
    (1..=8).map(at).collect()
}
