//! Choosing the next token from its logits.

use mor_math::SplitMix64;

use super::kernels::Kernels;
use super::weights::Model;
use crate::{Choice, Result, SamplingOptions};

/// Draws tokens; all its memory is allocated once.
#[derive(Clone)]
pub struct Sampler {
    options: SamplingOptions,
    kernels: Kernels,
    rng: SplitMix64,
    /// A random number that was drawn for a choice that is not made yet.
    uniform: Option<f32>,
    /// Penalised logits, `[vocab_size]`.
    logits: Vec<f32>,
    /// Their exponentials.
    weights: Vec<f32>,
    /// Candidates.
    order: Vec<u32>,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler")
            .field("options", &self.options)
            .finish()
    }
}

impl Sampler {
    /// A sampler for a model's logits.
    ///
    /// # Errors
    /// [`crate::EngineError::Option`] when an option is out of range.
    pub fn new(model: &Model, options: SamplingOptions) -> Result<Self> {
        Self::with_kernels(model.kernels, model.config.vocab_size, options)
    }

    /// As [`Self::new`], for a model that is elsewhere.
    pub(crate) fn with_kernels(
        kernels: Kernels,
        vocab_size: usize,
        options: SamplingOptions,
    ) -> Result<Self> {
        options.validate()?;
        Ok(Self {
            options,
            kernels,
            rng: SplitMix64::new(options.seed),
            uniform: None,
            logits: Vec::with_capacity(vocab_size),
            weights: Vec::with_capacity(vocab_size),
            order: Vec::with_capacity(vocab_size),
        })
    }

    /// What the next choice depends on: the options, and a number in `[0, 1)` that decides a draw. Stays the same
    /// until [`Self::drawn`] is called, so that a choice which failed can be made again.
    pub(crate) fn draw(&mut self) -> (SamplingOptions, f32) {
        // The likeliest token needs no luck.
        if self.options.temperature == 0.0 {
            return (self.options, 0.0);
        }
        let uniform = *self.uniform.get_or_insert_with(|| self.rng.uniform_f32());
        (self.options, uniform)
    }

    /// The choice was made.
    pub(crate) fn drawn(&mut self) {
        self.uniform = None;
    }

    /// Chooses after `logits`, `[vocab_size]`; `context` is what repetition is measured against.
    pub fn sample(&mut self, logits: &[f32], context: &[u32]) -> Choice {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.weights.resize(logits.len(), 0.0);
        self.penalise(logits, context);
        let (best, top) = argmax(&self.logits);
        let (_, uniform) = self.draw();
        self.drawn();
        let greedy = self.options.temperature == 0.0;
        let scale = if greedy {
            1.0
        } else {
            1.0 / self.options.temperature
        };
        let total = self
            .kernels
            .exponentials(&self.logits, top, scale, &mut self.weights);
        if greedy || !total.is_finite() {
            return Choice {
                id: best,
                probability: 1.0 / total,
            };
        }
        self.shortlist(total);
        let kept: f32 = self.order.iter().map(|id| self.weights[*id as usize]).sum();
        let mut remaining = uniform * kept;
        // Rounding may leave a sliver after the last candidate; it belongs to the likeliest.
        let mut id = best;
        for &candidate in &self.order {
            let weight = self.weights[candidate as usize];
            if remaining < weight {
                id = candidate;
                break;
            }
            remaining -= weight;
        }
        Choice {
            id,
            probability: self.weights[id as usize] / kept,
        }
    }

    fn penalise(&mut self, logits: &[f32], context: &[u32]) {
        let penalty = self.options.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        for &id in context {
            // From the untouched logits: a token that occurs twice is penalised once.
            if let (Some(to), Some(&x)) =
                (self.logits.get_mut(id as usize), logits.get(id as usize))
            {
                *to = if x > 0.0 { x / penalty } else { x * penalty };
            }
        }
    }

    /// Puts the tokens that take part into `order`, by increasing id: whatever made the list shorter, the same
    /// random number then draws the same token, on any device.
    fn shortlist(&mut self, total: f32) {
        let SamplingOptions { top_k, top_p, .. } = self.options;
        let weights = &self.weights;
        let order = &mut self.order;
        order.clear();
        let len = weights.len();
        // A token below this share of the total cannot be in the nucleus: even all of its like
        // together would not fill what the nucleus leaves out.
        let least = (1.0 - top_p) / len as f32 * total;
        order.extend((0..len as u32).filter(|id| weights[*id as usize] >= least));
        let by_weight = |a: &u32, b: &u32| {
            let weight = |id: &u32| weights[*id as usize];
            weight(b).total_cmp(&weight(a)).then(a.cmp(b))
        };
        let limited = top_k > 0 && top_k < len;
        if limited && top_k > order.len() {
            // The likeliest `top_k` are more than the whole nucleus, but it is measured by them.
            order.clear();
            order.extend(0..len as u32);
        }
        if limited && top_k < order.len() {
            let (_, last, _) = order.select_nth_unstable_by(top_k - 1, by_weight);
            let last = weights[*last as usize];
            order.retain(|id| weights[*id as usize] >= last);
        }
        if top_p < 1.0 {
            order.sort_unstable_by(by_weight);
            let kept: f32 = if limited {
                order.iter().map(|id| weights[*id as usize]).sum()
            } else {
                total
            };
            let mut sum = 0.0;
            let within = |id: &u32| {
                let before = sum;
                sum += weights[*id as usize];
                before < top_p * kept
            };
            let nucleus = order.iter().copied().take_while(within).count();
            if let Some(last) = order.get(nucleus.max(1) - 1) {
                let last = weights[*last as usize];
                order.retain(|id| weights[*id as usize] >= last);
            }
        }
        // Already in order where nothing was selected, which this notices in one pass.
        order.sort_unstable();
    }
}

/// The first of the largest values.
fn argmax(values: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::MIN);
    for (id, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (id as u32, value);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LoadOptions;
    use mor_config::Preset;

    fn sampler(options: SamplingOptions) -> Sampler {
        let mut config = Preset::Technical10m.config();
        config.vocab_size = 5;
        config.hidden_size = 16;
        config.num_attention_heads = 2;
        config.num_hidden_layers = 1;
        config.intermediate_size = 16;
        let model = Model::random(config, 1, LoadOptions::default()).expect("a model");
        Sampler::new(&model, options).expect("options in range")
    }

    /// Logits of probabilities 0.4, 0.3, 0.2, 0.08, 0.02.
    fn logits() -> [f32; 5] {
        [0.2_f32, 0.4, 0.02, 0.3, 0.08].map(f32::ln)
    }

    fn frequencies(options: SamplingOptions) -> [f32; 5] {
        let mut sampler = sampler(SamplingOptions { seed: 7, ..options });
        let mut counts = [0.0; 5];
        for _ in 0..20_000 {
            counts[sampler.sample(&logits(), &[]).id as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_near(actual: [f32; 5], expected: [f32; 5]) {
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 0.012, "{actual:?}, not {expected:?}");
        }
    }

    #[test]
    fn greedy_takes_the_likeliest_and_reports_its_probability() {
        let choice = sampler(SamplingOptions::default()).sample(&logits(), &[]);
        assert_eq!(choice.id, 1);
        assert!((choice.probability - 0.4).abs() < 1e-5);
    }

    #[test]
    fn frequencies_follow_the_options() {
        let base = SamplingOptions {
            temperature: 1.0,
            ..SamplingOptions::default()
        };
        assert_near(frequencies(base), [0.2, 0.4, 0.02, 0.3, 0.08]);
        let top_k = SamplingOptions { top_k: 2, ..base };
        assert_near(frequencies(top_k), [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0, 0.0]);
        // 0.4 + 0.3 is below 0.75, so the third joins.
        let top_p = SamplingOptions {
            top_p: 0.75,
            ..base
        };
        assert_near(
            frequencies(top_p),
            [2.0 / 9.0, 4.0 / 9.0, 0.0, 3.0 / 9.0, 0.0],
        );
        let both = SamplingOptions {
            top_k: 3,
            top_p: 0.5,
            ..base
        };
        assert_near(frequencies(both), [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0, 0.0]);
        let sharp = SamplingOptions {
            temperature: 0.5,
            ..base
        };
        let squares = [0.04, 0.16, 0.0004, 0.09, 0.0064].map(|p| p / 0.2968);
        assert_near(frequencies(sharp), squares);
    }

    #[test]
    fn tokens_as_likely_as_the_last_one_kept_are_kept() {
        // 0.4 of one token and 0.2 of three.
        let logits = [0.2_f32, 0.4, 0.2, 0.2, 1e-9].map(f32::ln);
        let base = SamplingOptions {
            temperature: 1.0,
            seed: 7,
            ..SamplingOptions::default()
        };
        for options in [
            SamplingOptions { top_k: 2, ..base },
            SamplingOptions { top_p: 0.5, ..base },
            SamplingOptions {
                top_k: 3,
                top_p: 0.5,
                ..base
            },
        ] {
            let mut sampler = sampler(options);
            let mut counts = [0.0; 5];
            for _ in 0..20_000 {
                counts[sampler.sample(&logits, &[]).id as usize] += 1.0 / 20_000.0;
            }
            assert_near(counts, [0.2, 0.4, 0.2, 0.2, 0.0]);
        }
    }

    #[test]
    fn the_nucleus_is_measured_by_what_top_k_keeps() {
        // The likeliest has half of what the likeliest two have, and less than half of all.
        let logits = [0.45_f32, 0.4, 0.05, 0.05, 0.05].map(f32::ln);
        for (top_k, top_p, likely) in [(9, 0.5, 2), (4, 0.5, 2), (2, 0.5, 1)] {
            let options = SamplingOptions {
                temperature: 1.0,
                top_k,
                top_p,
                ..SamplingOptions::default()
            };
            let mut sampler = sampler(options);
            let mut seen = [false; 5];
            for _ in 0..2_000 {
                seen[sampler.sample(&logits, &[]).id as usize] = true;
            }
            let seen = seen.iter().filter(|seen| **seen).count();
            assert_eq!(seen, likely, "{options:?}");
        }
    }

    /// Any shortlist that holds the drawn token draws it: the order of the candidates is that of their ids.
    #[test]
    fn candidates_are_drawn_in_order_of_their_ids() {
        let options = SamplingOptions {
            temperature: 1.0,
            seed: 5,
            ..SamplingOptions::default()
        };
        // Of ids 0, 1 and 3, which have 0.2, 0.4 and 0.3 of 0.9.
        let shortlists = [
            SamplingOptions {
                top_k: 3,
                ..options
            },
            SamplingOptions {
                top_p: 0.85,
                ..options
            },
        ];
        let mut rng = SplitMix64::new(5);
        let mut samplers = shortlists.map(sampler);
        for _ in 0..200 {
            let expected = match rng.uniform_f32() * 0.9 {
                x if x < 0.2 => 0,
                x if x < 0.6 => 1,
                _ => 3,
            };
            for sampler in &mut samplers {
                assert_eq!(sampler.sample(&logits(), &[]).id, expected);
            }
        }
    }

    #[test]
    fn a_draw_lasts_until_it_is_used() {
        let options = SamplingOptions {
            temperature: 1.0,
            ..SamplingOptions::default()
        };
        let mut sampler = sampler(options);
        let first = sampler.draw();
        assert_eq!(sampler.draw(), first);
        sampler.drawn();
        assert_ne!(sampler.draw(), first);
    }

    #[test]
    fn the_seed_decides_and_repetition_is_penalised_once() {
        let options = SamplingOptions {
            temperature: 1.0,
            seed: 3,
            ..SamplingOptions::default()
        };
        let draw = |options| {
            let mut sampler = sampler(options);
            (0..50)
                .map(|_| sampler.sample(&logits(), &[]).id)
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(options), draw(options));
        assert_ne!(draw(options), draw(SamplingOptions { seed: 4, ..options }));

        let penalty = SamplingOptions {
            repetition_penalty: 2.0,
            ..SamplingOptions::default()
        };
        assert_eq!(sampler(penalty).sample(&logits(), &[1, 1]).id, 3);
        for bad in [
            SamplingOptions {
                temperature: f32::NAN,
                ..options
            },
            SamplingOptions {
                temperature: -1.0,
                ..options
            },
            SamplingOptions {
                top_p: 0.0,
                ..options
            },
            SamplingOptions {
                repetition_penalty: 0.0,
                ..options
            },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }
}
