//! Simple rules that gates are held against.

use mor_config::ModelConfig;
use mor_math::SplitMix64;

use super::passes::{Known, Text};
use crate::gate::ridge::{Line, Ridge};

/// A simple rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Chance.
    Random,
    /// The entropy of the prediction, which costs a pass of coda and head each time.
    Entropy,
    /// How far the loop moved the state.
    Displacement,
    /// The place in the sequence.
    Position,
    /// How often the token occurs.
    Frequency,
}

impl Rule {
    pub(super) const ALL: [Self; 5] = [
        Self::Random,
        Self::Entropy,
        Self::Displacement,
        Self::Position,
        Self::Frequency,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Entropy => "entropy",
            Self::Displacement => "displacement",
            Self::Position => "position",
            Self::Frequency => "frequency",
        }
    }

    /// The rule with what it learns from a text of its own.
    pub(super) fn fit(self, known: &Known, text: &Text, most: usize) -> Exits {
        let mut counts = std::collections::HashMap::new();
        text.ids()
            .for_each(|(_, id)| *counts.entry(id).or_insert(0) += 1);
        let mut exits = Exits {
            rule: self,
            lines: Vec::new(),
            counts,
            scores: Vec::new(),
            most,
        };
        for step in 0..most - 1 {
            let mut ridge = Ridge::new(2);
            for (x, change) in exits
                .seen(known, text, step)
                .iter()
                .zip(&known.changes[step])
            {
                ridge.add(x, *change);
            }
            exits.lines.push(ridge.solve(1e-6));
        }
        exits.scores = exits.scores_of(known, text);
        exits
    }
}

/// A fitted rule: a position goes on while its score exceeds a threshold.
pub(super) struct Exits {
    rule: Rule,
    /// By loop.
    lines: Vec<Option<Line>>,
    counts: std::collections::HashMap<i64, usize>,
    /// By loop, of the text that it was fitted on.
    scores: Vec<Vec<f64>>,
    most: usize,
}

impl Exits {
    /// What the rule sees of each position after a loop, and its square.
    fn seen(&self, known: &Known, text: &Text, step: usize) -> Vec<[f32; 2]> {
        let values: Vec<f64> = match self.rule {
            Rule::Random => vec![0.0; known.entropy[step].len()],
            Rule::Entropy => known.entropy[step].clone(),
            Rule::Displacement => known.moved[step].clone(),
            Rule::Position => text.ids().map(|(at, _)| ((at + 1) as f64).ln()).collect(),
            Rule::Frequency => text
                .ids()
                .map(|(_, id)| ((self.counts.get(&id).copied().unwrap_or(0) + 1) as f64).ln())
                .collect(),
        };
        let values = values.into_iter();
        values.map(|x| [x as f32, (x * x) as f32]).collect()
    }

    fn scores_of(&self, known: &Known, text: &Text) -> Vec<Vec<f64>> {
        let mut draw = SplitMix64::new(5);
        let mut of_step = |step: usize| -> Vec<f64> {
            let seen = self.seen(known, text, step);
            match (&self.lines[step], self.rule) {
                (Some(line), rule) if rule != Rule::Random => {
                    // Among equals chance decides.
                    let score = |x: &[f32; 2]| line.at(x) + 1e-9 * draw.uniform();
                    seen.iter().map(score).collect()
                }
                _ => seen.iter().map(|_| draw.uniform()).collect(),
            }
        };
        (0..self.most - 1).map(&mut of_step).collect()
    }

    /// Depths of all positions, at the threshold that has this mean on the text of the fit.
    pub(super) fn depths(&self, known: &Known, text: &Text, mean: f64) -> Vec<usize> {
        let (mut low, mut high) = (-1e3, 1e3);
        for _ in 0..60 {
            let threshold = 0.5 * (low + high);
            let depths = taken(&self.scores, threshold);
            let found = depths.iter().sum::<usize>() as f64 / depths.len().max(1) as f64;
            match found > mean {
                true => low = threshold,
                false => high = threshold,
            }
        }
        let mut all = vec![1; text.positions()];
        let depths = taken(&self.scores_of(known, text), high);
        text.places()
            .zip(depths)
            .for_each(|(at, depth)| all[at] = depth);
        all
    }

    /// Operations that the decisions cost: a pass of coda and head each time that entropy is asked, next to nothing for
    /// other rules.
    pub(super) fn extra_flops(&self, config: &ModelConfig, text: &Text, depths: &[usize]) -> f64 {
        if self.rule != Rule::Entropy {
            return 0.0;
        }
        let (d, ffn) = (config.hidden_size as f64, config.intermediate_size as f64);
        let block = 2.0 * (4.0 * d * d + 2.0 * d * ffn);
        let each = config.num_coda_layers as f64 * block + 2.0 * d * config.vocab_size as f64;
        // The last one asked is of the loop that the position leaves after anyway.
        let asked = text
            .counted(depths)
            .map(|depth| depth.min(self.most - 1) - usize::from(depth < self.most));
        asked.sum::<usize>() as f64 * each
    }
}

/// Loops of positions whose scores, by loop, must exceed a threshold.
fn taken(scores: &[Vec<f64>], threshold: f64) -> Vec<usize> {
    let positions = scores.first().map_or(0, Vec::len);
    let depth = |at: usize| {
        1 + scores
            .iter()
            .take_while(|scores| scores[at] > threshold)
            .count()
    };
    (0..positions).map(depth).collect()
}
