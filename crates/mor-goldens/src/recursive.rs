//! The recursive model in f64, position by position, written from its formulas: what every device is held to.

use mor_config::{LoopKeys, ModelConfig};

use crate::Named;

/// Keys and values of a position.
type KeyValue = (Vec<f64>, Vec<f64>);

/// What [`run_recursive`] finds, by position.
#[derive(Debug, Clone)]
pub struct RecursiveOutput {
    /// `[position][vocab]`.
    pub logits: Vec<Vec<f64>>,
    /// Loops of each position.
    pub depths: Vec<usize>,
    /// Least distance of a gate from the threshold: decisions nearer than the rounding of a device may differ there.
    pub margin: f64,
}

/// Who decides how often positions loop.
#[derive(Debug, Clone, Copy)]
pub enum Loops<'a> {
    /// These numbers, one for each position.
    Given(&'a [usize]),
    /// The gates, which must exceed this for a position to go on.
    Gated(f64),
}

/// Runs a recursive model on a sequence, with tied embeddings or a head of its own. Pads are hidden as keys.
pub fn run_recursive(
    config: &ModelConfig,
    tensors: &Named,
    ids: &[u32],
    loops: Loops<'_>,
) -> RecursiveOutput {
    let mut run = Run {
        config,
        tensors,
        ids,
        depths: Vec::new(),
        once: vec![Vec::new(); config.num_prelude_layers + config.num_coda_layers],
        core: vec![vec![Vec::new(); config.num_core_layers]; config.routing.max_steps],
        margin: f64::MAX,
    };
    let logits = (0..ids.len()).map(|at| run.position(at, loops)).collect();
    RecursiveOutput {
        logits,
        depths: run.depths,
        margin: run.margin,
    }
}

struct Run<'a> {
    config: &'a ModelConfig,
    tensors: &'a Named,
    ids: &'a [u32],
    depths: Vec<usize>,
    /// Of each block of prelude and coda, by position.
    once: Vec<Vec<KeyValue>>,
    /// Of each loop and block of the core, by position; as many as took that loop have some.
    core: Vec<Vec<Vec<Option<KeyValue>>>>,
    margin: f64,
}

impl Run<'_> {
    fn tensor(&self, name: &str) -> &[f64] {
        self.tensors.get(name).map_or(&[], Vec::as_slice)
    }

    fn position(&mut self, at: usize, loops: Loops<'_>) -> Vec<f64> {
        let dim = self.config.hidden_size;
        let row = self.ids[at] as usize * dim;
        let mut x = self.tensor("embed.weight")[row..row + dim].to_vec();
        for layer in 0..self.config.num_prelude_layers {
            x = self.block_once(x, &format!("prelude.{layer}"), layer, at);
        }
        let mut depth = match loops {
            Loops::Given(depths) => depths[at],
            Loops::Gated(_) => 1,
        };
        let mut step = 0;
        while step < depth {
            let before = x.clone();
            for layer in 0..self.config.num_core_layers {
                x = self.block_of_core(x, layer, step, at);
            }
            step += 1;
            if let Loops::Gated(threshold) = loops
                && step < self.config.routing.max_steps
            {
                let goes_on = self.gate(step, &x, &before);
                self.margin = self.margin.min((goes_on - threshold).abs());
                depth += usize::from(goes_on > threshold);
            }
        }
        for of_loop in &mut self.core[depth..] {
            of_loop.iter_mut().for_each(|block| block.push(None));
        }
        self.depths.push(depth);
        for layer in 0..self.config.num_coda_layers {
            let cache = self.config.num_prelude_layers + layer;
            x = self.block_once(x, &format!("coda.{layer}"), cache, at);
        }
        let x = self.norm(&x, "final_norm");
        let head = if self.config.tie_word_embeddings {
            "embed.weight"
        } else {
            "lm_head.weight"
        };
        product(self.tensor(head), &x)
    }

    /// A block that every position passes once.
    fn block_once(&mut self, x: Vec<f64>, name: &str, cache: usize, at: usize) -> Vec<f64> {
        let (query, key_value) = self.project(&x, name, at);
        self.once[cache].push(key_value);
        let seen: Vec<&KeyValue> = (0..=at)
            .filter(|other| self.is_visible(*other))
            .map(|other| &self.once[cache][other])
            .collect();
        self.finish(x, name, &query, &seen)
    }

    fn block_of_core(&mut self, x: Vec<f64>, layer: usize, step: usize, at: usize) -> Vec<f64> {
        let name = format!("core.{layer}");
        let (query, key_value) = self.project(&x, &name, at);
        self.core[step][layer].push(Some(key_value));
        let seen: Vec<&KeyValue> = (0..=at)
            .filter(|other| self.is_visible(*other))
            .filter_map(|other| {
                let took = match self.config.routing.kv {
                    LoopKeys::Active => step,
                    // The last loop that it took, up to this one.
                    LoopKeys::Deepest if other == at => step,
                    LoopKeys::Deepest => step.min(self.depths[other] - 1),
                };
                self.core[took][layer][other].as_ref()
            })
            .collect();
        self.finish(x, &name, &query, &seen)
    }

    fn is_visible(&self, at: usize) -> bool {
        self.ids[at] != self.config.pad_token_id
    }

    /// The rotated query, and the rotated key with its value.
    fn project(&self, x: &[f64], name: &str, at: usize) -> (Vec<f64>, KeyValue) {
        let z = self.norm(x, &format!("{name}.ln1"));
        let part = |part: &str| product(self.tensor(&format!("{name}.attn.{part}.weight")), &z);
        let rotated = |x: Vec<f64>| self.rotate(x, at);
        (
            rotated(part("q_proj")),
            (rotated(part("k_proj")), part("v_proj")),
        )
    }

    fn rotate(&self, mut x: Vec<f64>, at: usize) -> Vec<f64> {
        let head_dim = self.config.head_dim();
        let half = head_dim / 2;
        for head in x.chunks_exact_mut(head_dim) {
            for pair in 0..half {
                let power = -2.0 * pair as f64 / head_dim as f64;
                let angle = at as f64 * f64::from(self.config.rope_theta).powf(power);
                let (a, b) = (head[pair], head[pair + half]);
                head[pair] = a * angle.cos() - b * angle.sin();
                head[pair + half] = b * angle.cos() + a * angle.sin();
            }
        }
        x
    }

    /// Attention over what is seen, then the feed-forward.
    fn finish(&self, mut x: Vec<f64>, name: &str, query: &[f64], seen: &[&KeyValue]) -> Vec<f64> {
        let head_dim = self.config.head_dim();
        let mut mixed = vec![0.0; x.len()];
        for head in (0..x.len()).step_by(head_dim) {
            let channels = head..head + head_dim;
            let scores: Vec<f64> = seen
                .iter()
                .map(|(key, _)| dot(&query[channels.clone()], &key[channels.clone()]))
                .map(|score| score / (head_dim as f64).sqrt())
                .collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
            let total: f64 = weights.iter().sum();
            for ((_, value), weight) in seen.iter().zip(weights) {
                for channel in channels.clone() {
                    mixed[channel] += weight / total * value[channel];
                }
            }
        }
        let weight = |part: &str| self.tensor(&format!("{name}.{part}.weight"));
        add(&mut x, &product(weight("attn.out_proj"), &mixed));
        let z = self.norm(&x, &format!("{name}.ln2"));
        let mut inner = product(weight("ff.fc1"), &z);
        inner.iter_mut().for_each(|x| *x = gelu(*x));
        add(&mut x, &product(weight("ff.fc2"), &inner));
        x
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let (gain, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let normed = normalise(x, f64::from(self.config.layer_norm_eps));
        let scaled = normed.iter().zip(self.tensor(&gain)).map(|(x, g)| x * g);
        scaled.zip(self.tensor(&bias)).map(|(x, b)| x + b).collect()
    }

    /// The probability of taking a loop more after `step` of them.
    fn gate(&self, step: usize, x: &[f64], before: &[f64]) -> f64 {
        let eps = f64::from(self.config.layer_norm_eps);
        let moved: Vec<f64> = x.iter().zip(before).map(|(x, before)| x - before).collect();
        let mut seen = normalise(x, eps);
        seen.push(dot(&moved, &moved).sqrt() / (dot(x, x).sqrt() + eps));
        let score = dot(self.tensor(&format!("gates.{step}.weight")), &seen);
        let bias = self.tensor(&format!("gates.{step}.bias"));
        1.0 / (1.0 + (-(score + bias.iter().sum::<f64>())).exp())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [f64], more: &[f64]) {
    x.iter_mut().zip(more).for_each(|(x, more)| *x += more);
}

/// `weight · x`, `weight` being `[out, in]`.
fn product(weight: &[f64], x: &[f64]) -> Vec<f64> {
    weight
        .chunks_exact(x.len())
        .map(|row| dot(row, x))
        .collect()
}

fn normalise(x: &[f64], eps: f64) -> Vec<f64> {
    let count = x.len() as f64;
    let mean = x.iter().sum::<f64>() / count;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    x.iter()
        .map(|x| (x - mean) / (variance + eps).sqrt())
        .collect()
}

/// `x · Φ(x)`, by the complementary error function's continued fraction and series.
fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

/// The error function, by its Taylor series where that converges quickly, and Lentz's continued fraction elsewhere
/// (Abramowitz & Stegun 1964, 7.1.5 and 7.1.14).
fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size < 2.5 {
        let (mut term, mut sum) = (size, size);
        for n in 1..60 {
            let n = f64::from(n);
            term *= -size * size / n;
            sum += term / (2.0 * n + 1.0);
        }
        return (sum * std::f64::consts::FRAC_2_SQRT_PI).copysign(x);
    }
    let mut fraction = 0.0;
    for n in (1..80).rev() {
        fraction = f64::from(n) / 2.0 / (size + fraction);
    }
    let rest = (-size * size).exp() / (size + fraction) / std::f64::consts::PI.sqrt();
    (1.0 - rest).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_the_known_one() {
        for (x, expected) in [
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.4, 0.999_311_486_103_354_9),
            (2.6, 0.999_763_965_583_470_7),
            (4.0, 0.999_999_984_582_742_1),
        ] {
            assert!((erf(x) - expected).abs() < 1e-13, "{x}: {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
    }
}
