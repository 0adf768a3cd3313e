//! The technical original in plain f64 loops, from its formulas: no code of the engine, and shapes and names written out.

use std::collections::HashMap;

/// Where positions enter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Learned,
    Sinusoidal,
    Rotary,
}

pub(crate) const VOCAB: usize = 29;
pub(crate) const DIM: usize = 24;
pub(crate) const HEADS: usize = 3;
pub(crate) const CONTEXT: usize = 20;
const LAYERS: usize = 2;
const FFN: usize = 40;
const STEPS: usize = 3;
const HEAD_DIM: usize = DIM / HEADS;

/// Name, shape and values of a tensor.
pub(crate) type Tensor = (String, Vec<usize>, Vec<f32>);
type Rows = Vec<Vec<f64>>;

/// A random checkpoint.
pub(crate) struct Original {
    kind: Kind,
    values: HashMap<String, Vec<f64>>,
    tensors: Vec<Tensor>,
}

/// What the original makes of some ids.
pub(crate) struct Outcome {
    /// `[position][vocab]`
    pub(crate) logits: Rows,
    /// Steps of each layer.
    pub(crate) steps: Vec<usize>,
}

impl Original {
    pub(crate) fn new(kind: Kind, seed: u64) -> Self {
        let mut original = Self {
            kind,
            values: HashMap::new(),
            tensors: Vec::new(),
        };
        let mut state = seed;
        let mut add = |name: &str, shape: &[usize], scale: f64, centre: f64| {
            let count = shape.iter().product();
            let values: Vec<f32> = std::iter::repeat_with(|| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let uniform = (state >> 40) as f64 / f64::from(1 << 24) - 0.5;
                (centre + scale * uniform) as f32
            })
            .take(count)
            .collect();
            let exact = values.iter().map(|value| f64::from(*value)).collect();
            original.values.insert(name.to_owned(), exact);
            original
                .tensors
                .push((name.to_owned(), shape.to_vec(), values));
        };
        let matrix = |rows: usize, columns: usize| ([rows, columns], 4.0 / (columns as f64).sqrt());
        let mut linear = |name: &str, rows: usize, columns: usize, bias: bool| {
            let (shape, scale) = matrix(rows, columns);
            add(&format!("{name}.weight"), &shape, scale, 0.0);
            if bias {
                add(&format!("{name}.bias"), &[rows], 0.4, 0.0);
            }
        };
        linear("embeddings.token_embedding", VOCAB, DIM, false);
        if kind == Kind::Learned {
            linear("embeddings.pos_encoding.pos_embedding", CONTEXT, DIM, false);
        }
        for layer in 0..LAYERS {
            let at = |part: &str| format!("layers.{layer}.{part}");
            linear(&at("router.complexity_classifier.0"), DIM / 4, DIM, true);
            linear(
                &at("router.complexity_classifier.3"),
                STEPS + 1,
                DIM / 4,
                true,
            );
            for step in 0..STEPS {
                linear(&at(&format!("step_projections.{step}")), DIM, DIM, true);
            }
            for part in ["w_q", "w_k", "w_v"] {
                linear(&at(&format!("attention.{part}")), DIM, DIM, false);
            }
            linear(&at("attention.w_o"), DIM, DIM, true);
            linear(&at("feedforward.linear1"), FFN, DIM, true);
            linear(&at("feedforward.linear2"), DIM, FFN, true);
        }
        linear("lm_head", VOCAB, DIM, false);
        let mut norm = |name: &str| {
            add(&format!("{name}.weight"), &[DIM], 0.4, 1.0);
            add(&format!("{name}.bias"), &[DIM], 0.4, 0.0);
        };
        norm("embeddings.layer_norm");
        norm("final_norm");
        for layer in 0..LAYERS {
            norm(&format!("layers.{layer}.norm1"));
            norm(&format!("layers.{layer}.norm2"));
        }
        original
    }

    /// The state dict: weights, and no table that a formula gives.
    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        self.tensors.clone()
    }

    /// The ids that greedy decoding adds, each after the whole context was computed again.
    pub(crate) fn continuation(&self, prompt: &[u32], count: usize) -> Vec<u32> {
        let mut ids = prompt.to_vec();
        for _ in 0..count {
            let last = self.forward(&ids).logits.pop().expect("a position");
            ids.push(clear_winner(&last) as u32);
        }
        ids.split_off(prompt.len())
    }

    pub(crate) fn forward(&self, ids: &[u32]) -> Outcome {
        let embed = |(position, id): (usize, &u32)| {
            let mut x = self.row("embeddings.token_embedding.weight", *id as usize);
            for (column, x) in x.iter_mut().enumerate() {
                *x += self.position(position, column);
            }
            self.norm(&x, "embeddings.layer_norm")
        };
        let mut x: Rows = ids.iter().enumerate().map(embed).collect();
        let mut steps = Vec::new();
        for layer in 0..LAYERS {
            let taken = self.route(&x, layer);
            for step in 0..taken {
                self.step(&mut x, ids, layer, step);
            }
            steps.push(taken);
        }
        let logits = |x: &Vec<f64>| self.linear(&self.norm(x, "final_norm"), "lm_head");
        Outcome {
            logits: x.iter().map(logits).collect(),
            steps,
        }
    }

    /// What a position adds to an embedding.
    fn position(&self, position: usize, column: usize) -> f64 {
        match self.kind {
            Kind::Learned => {
                self.row("embeddings.pos_encoding.pos_embedding.weight", position)[column]
            }
            Kind::Sinusoidal => sinusoid(position, column),
            Kind::Rotary => 0.0,
        }
    }

    /// Steps of a layer: a class for the mean over all positions.
    fn route(&self, x: &Rows, layer: usize) -> usize {
        let mean: Vec<f64> = (0..DIM)
            .map(|column| x.iter().map(|row| row[column]).sum::<f64>() / x.len() as f64)
            .collect();
        let at = |part: &str| format!("layers.{layer}.router.complexity_classifier.{part}");
        let hidden: Vec<f64> = self.linear(&mean, &at("0")).into_iter().map(gelu).collect();
        clear_winner(&self.linear(&hidden, &at("3")))
    }

    fn step(&self, x: &mut Rows, ids: &[u32], layer: usize, step: usize) {
        let at = |part: &str| format!("layers.{layer}.{part}");
        let projection = at(&format!("step_projections.{step}"));
        let z: Rows = x.iter().map(|x| self.linear(x, &projection)).collect();
        let project = |part: &str, rotated: bool| -> Rows {
            let rows = z.iter().enumerate().map(|(position, z)| {
                let mut row = self.linear(z, &at(part));
                if rotated && self.kind == Kind::Rotary {
                    rotate(&mut row, position);
                }
                row
            });
            rows.collect()
        };
        let (q, k) = (
            project("attention.w_q", true),
            project("attention.w_k", true),
        );
        let v = project("attention.w_v", false);
        for position in 0..x.len() {
            let mut mixed = vec![0.0; DIM];
            for head in 0..HEADS {
                let channels = head * HEAD_DIM..(head + 1) * HEAD_DIM;
                // Padding, id 0, is hidden as a key.
                let keys: Vec<usize> = (0..=position).filter(|key| ids[*key] != 0).collect();
                let score = |key: usize| {
                    let products = channels.clone().map(|c| q[position][c] * k[key][c]);
                    (products.sum::<f64>() / (HEAD_DIM as f64).sqrt()).exp()
                };
                let total: f64 = keys.iter().map(|key| score(*key)).sum();
                for key in keys {
                    for channel in channels.clone() {
                        mixed[channel] += score(key) / total * v[key][channel];
                    }
                }
            }
            let attended = self.linear(&mixed, &at("attention.w_o"));
            let sum = add(&x[position], &attended);
            let middle = self.norm(&sum, &at("norm1"));
            let hidden = self.linear(&middle, &at("feedforward.linear1"));
            let hidden: Vec<f64> = hidden.into_iter().map(gelu).collect();
            let fed = self.linear(&hidden, &at("feedforward.linear2"));
            x[position] = self.norm(&add(&middle, &fed), &at("norm2"));
        }
    }

    fn row(&self, name: &str, row: usize) -> Vec<f64> {
        self.values[name][row * DIM..(row + 1) * DIM].to_vec()
    }

    fn linear(&self, x: &[f64], name: &str) -> Vec<f64> {
        let bias = self.values.get(&format!("{name}.bias"));
        let rows = self.values[&format!("{name}.weight")].chunks_exact(x.len());
        let product = |(i, row): (usize, &[f64])| {
            let sum: f64 = row.iter().zip(x).map(|(w, x)| w * x).sum();
            sum + bias.map_or(0.0, |bias| bias[i])
        };
        rows.enumerate().map(product).collect()
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let gain = &self.values[&format!("{name}.weight")];
        let bias = &self.values[&format!("{name}.bias")];
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        (0..x.len())
            .map(|i| (x[i] - mean) / (variance + 1e-5).sqrt() * gain[i] + bias[i])
            .collect()
    }
}

/// Column `2i` is `sin(position / 10000^(2i / dim))`, and column `2i + 1` the cosine.
fn sinusoid(position: usize, column: usize) -> f64 {
    let angle = position as f64 / 10_000_f64.powf((column / 2 * 2) as f64 / DIM as f64);
    if column.is_multiple_of(2) {
        angle.sin()
    } else {
        angle.cos()
    }
}

/// The table that the original keeps of it, computed in f32 as it is there: `[positions, dim]`.
pub(crate) fn sinusoids(positions: usize) -> Vec<f32> {
    let value = |position: usize, column: usize| {
        let exponent = (column / 2 * 2) as f32 * (-(10_000_f32.ln()) / DIM as f32);
        let angle = position as f32 * exponent.exp();
        if column.is_multiple_of(2) {
            angle.sin()
        } else {
            angle.cos()
        }
    };
    let rows = (0..positions).flat_map(|position| (0..DIM).map(move |column| (position, column)));
    rows.map(|(position, column)| value(position, column))
        .collect()
}

/// Rotary frequencies of a head: `base^(-2i / head_dim)`.
pub(crate) fn frequencies(base: f32) -> Vec<f32> {
    let exponents = (0..HEAD_DIM / 2).map(|pair| 2.0 * pair as f32 / HEAD_DIM as f32);
    exponents
        .map(|exponent| 1.0 / base.powf(exponent))
        .collect()
}

/// Turns channel `i` of each head and the one half a head behind it by an angle that grows with the position.
fn rotate(row: &mut [f64], position: usize) {
    for head in row.chunks_exact_mut(HEAD_DIM) {
        for pair in 0..HEAD_DIM / 2 {
            let angle = position as f64 / 10_000_f64.powf(2.0 * pair as f64 / HEAD_DIM as f64);
            let (a, b) = (head[pair], head[pair + HEAD_DIM / 2]);
            head[pair] = a * angle.cos() - b * angle.sin();
            head[pair + HEAD_DIM / 2] = a * angle.sin() + b * angle.cos();
        }
    }
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// The largest of some scores, none of which comes close: rounding must decide nothing.
fn clear_winner(scores: &[f64]) -> usize {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    assert!(
        scores[order[0]] - scores[order[1]] > 2e-4,
        "close to a tie: choose another seed"
    );
    order[0]
}

/// x Φ(x), with erf summed up as a series.
fn gelu(x: f64) -> f64 {
    let t = x / std::f64::consts::SQRT_2;
    if t.abs() > 4.0 {
        return x.max(0.0);
    }
    let (mut term, mut sum) = (t, t);
    for n in 1..100 {
        term *= -t * t / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    0.5 * x * (1.0 + sum * std::f64::consts::FRAC_2_SQRT_PI)
}
