//! Both models against a second implementation: plain loops in f64, one row and one position at a time.

use std::collections::{BTreeSet, HashMap};

use crate::common::{self, CONVERSATIONAL, TECHNICAL, logits};
use burn::tensor::{Device, Int, Tensor};
use mor_config::{
    AdaptiveEmbedding, Architecture, Component, HaltedRows, ModelConfig, Pooling, Positions,
    RouterKind,
};
use mor_model::Model;

type Vector = Vec<f64>;

struct Reference<'a> {
    config: &'a ModelConfig,
    tensors: HashMap<String, Vector>,
}

/// The tensor names of a block's attention and feed-forward: queries, keys, values, output, in, out.
struct Names([String; 6]);

impl Reference<'_> {
    fn get(&self, name: &str) -> &[f64] {
        &self.tensors[name]
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vector {
        let weight = self.get(&format!("{name}.weight"));
        let mut y: Vector = weight
            .chunks_exact(x.len())
            .map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
            .collect();
        if let Some(bias) = self.tensors.get(&format!("{name}.bias")) {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        y
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vector {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let scale = (variance + f64::from(self.config.layer_norm_eps)).sqrt();
        let (gain, bias) = (
            self.get(&format!("{name}.weight")),
            self.get(&format!("{name}.bias")),
        );
        (0..x.len())
            .map(|i| (x[i] - mean) / scale * gain[i] + bias[i])
            .collect()
    }

    fn embed(&self, ids: &[usize]) -> Vec<Vector> {
        let d = self.config.hidden_size;
        let technical = self.config.architecture == Architecture::Technical;
        let name = if technical {
            "embeddings.token_embedding"
        } else {
            "embed"
        };
        let token = |id: usize| match &self.config.adaptive_embedding {
            None => self.get(&format!("{name}.weight"))[id * d..][..d].to_vec(),
            Some(adaptive) => {
                let band = adaptive.cutoffs.iter().filter(|end| id >= **end).count();
                let start = if band == 0 {
                    0
                } else {
                    adaptive.cutoffs[band - 1]
                };
                let width = d / adaptive.div_val.pow(band as u32);
                let table = self.get(&format!("{name}.emb_layers.{band}.weight"));
                let vector = &table[(id - start) * width..][..width];
                self.linear(&format!("{name}.emb_projs.{band}"), vector)
            }
        };
        let rows = ids.iter().enumerate().map(|(position, id)| {
            let mut x = token(*id);
            for (i, x) in x.iter_mut().enumerate() {
                *x += match self.config.positions {
                    Positions::Rotary => 0.0,
                    Positions::Learned => {
                        self.get("embeddings.pos_encoding.pos_embedding.weight")[position * d + i]
                    }
                    Positions::Sinusoidal => {
                        let angle =
                            position as f64 / 10_000_f64.powf((i / 2 * 2) as f64 / d as f64);
                        if i % 2 == 0 { angle.sin() } else { angle.cos() }
                    }
                };
            }
            x
        });
        match technical {
            true => rows
                .map(|x| self.norm("embeddings.layer_norm", &x))
                .collect(),
            false => rows.collect(),
        }
    }

    /// A head's vector turned by its position: the pair (i, i + half) is a complex number times e^(i · angle).
    fn rotated(&self, head: &[f64], position: usize) -> Vector {
        if self.config.positions != Positions::Rotary {
            return head.to_vec();
        }
        let half = head.len() / 2;
        let mut out = vec![0.0; head.len()];
        for i in 0..half {
            let frequency = f64::from(self.config.rope_theta).powf(-(i as f64) / half as f64);
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (re, im) = (head[i], head[i + half]);
            out[i] = re * cos - im * sin;
            out[i + half] = re * sin + im * cos;
        }
        out
    }

    /// Attention of the positions in `active`, which see those of each other that are `real` and not later.
    fn attention(
        &self,
        names: &Names,
        x: &[Vector],
        active: &[bool],
        real: &[bool],
    ) -> Vec<Vector> {
        let d = self.config.hidden_size;
        let width = self.config.head_dim();
        let [q, k, v, out, ..] = &names.0;
        let project =
            |name: &str| -> Vec<Vector> { x.iter().map(|x| self.linear(name, x)).collect() };
        let (q, k, v) = (project(q), project(k), project(v));
        let attend = |position: usize| {
            let keys = (0..=position).filter(|key| active[*key] && real[*key]);
            let keys: Vec<usize> = keys.collect();
            let mut mixed = vec![0.0; d];
            for head in (0..d).step_by(width) {
                let query = self.rotated(&q[position][head..head + width], position);
                let scores = keys.iter().map(|key| {
                    let key = self.rotated(&k[*key][head..head + width], *key);
                    let product: f64 = query.iter().zip(&key).map(|(q, k)| q * k).sum();
                    (product / (width as f64).sqrt()).exp()
                });
                let scores: Vector = scores.collect();
                let sum: f64 = scores.iter().sum();
                for (key, score) in keys.iter().zip(&scores) {
                    for i in head..head + width {
                        mixed[i] += score / sum * v[*key][i];
                    }
                }
            }
            self.linear(out, &mixed)
        };
        (0..x.len()).map(attend).collect()
    }

    fn feed_forward(&self, names: &Names, x: &[f64]) -> Vector {
        let [.., first, second] = &names.0;
        let hidden = self.linear(first, x).into_iter().map(gelu);
        self.linear(second, &hidden.collect::<Vector>())
    }

    /// Steps of every position.
    fn route(&self, prefix: &str, x: &[Vector], real: &[bool]) -> Vec<usize> {
        let all = |position: usize| -> Vec<usize> {
            let until = match self.config.routing.pooling {
                Pooling::Prefix => position + 1,
                _ => x.len(),
            };
            let counts = |p: &usize| self.config.routing.pooling == Pooling::Sequence || real[*p];
            (0..until).filter(counts).collect()
        };
        let route = |position: usize| {
            let over = all(position);
            let mut pooled = vec![0.0; self.config.hidden_size];
            for p in &over {
                for (pooled, x) in pooled.iter_mut().zip(&x[*p]) {
                    *pooled += x / over.len() as f64;
                }
            }
            if self.config.architecture == Architecture::Conversational {
                pooled = self.linear("router.pooler", &pooled);
                pooled.iter_mut().for_each(|x| *x = x.tanh());
            }
            let hidden = self.linear(&format!("{prefix}.0"), &pooled);
            let hidden: Vector = hidden.into_iter().map(gelu).collect();
            let logits = self.linear(&format!("{prefix}.3"), &hidden);
            let largest = logits.iter().copied().fold(f64::MIN, f64::max);
            let class = logits.iter().position(|logit| *logit == largest);
            self.config.routing.steps_of_classes()[class.expect("classes")]
        };
        match self.config.routing.kind {
            RouterKind::Fixed => vec![self.config.routing.depth.expect("a depth"); x.len()],
            RouterKind::Adaptive => (0..x.len()).map(route).collect(),
        }
    }

    /// Logits and steps of every position of one row; steps by layer.
    fn run(&self, ids: &[usize]) -> (Vector, Vec<Vec<usize>>) {
        let real: Vec<bool> = ids
            .iter()
            .map(|id| *id != self.config.pad_token_id as usize)
            .collect();
        let mut x = self.embed(ids);
        let mut steps = Vec::new();
        let everywhere = vec![true; ids.len()];
        let last = match self.config.architecture {
            Architecture::Technical => {
                for layer in 0..self.config.num_hidden_layers {
                    let at = |part: &str| format!("layers.{layer}.{part}");
                    let names = Names(
                        [
                            "attention.w_q",
                            "attention.w_k",
                            "attention.w_v",
                            "attention.w_o",
                            "feedforward.linear1",
                            "feedforward.linear2",
                        ]
                        .map(at),
                    );
                    let depths = self.route(&at("router.complexity_classifier"), &x, &real);
                    for step in 0..self.config.routing.max_steps {
                        let active: Vec<bool> = depths.iter().map(|d| step < *d).collect();
                        let projection = at(&format!("step_projections.{step}"));
                        let z: Vec<Vector> =
                            x.iter().map(|x| self.linear(&projection, x)).collect();
                        let attended = self.attention(&names, &z, &active, &real);
                        for p in (0..ids.len()).filter(|p| active[*p]) {
                            x[p] = self.norm(&at("norm1"), &sum(&x[p], &attended[p]));
                            let fed = self.feed_forward(&names, &x[p]);
                            x[p] = self.norm(&at("norm2"), &sum(&x[p], &fed));
                        }
                    }
                    steps.push(depths);
                }
                "final_norm"
            }
            Architecture::Conversational => {
                for layer in 0..self.config.num_hidden_layers {
                    self.block(&format!("layers.{layer}"), &mut x, &everywhere, &real);
                }
                let depths = self.route("router.head", &x, &real);
                for step in 0..self.config.routing.max_steps {
                    let active: Vec<bool> = depths.iter().map(|d| step < *d).collect();
                    self.block("rec_layer.block", &mut x, &active, &real);
                }
                steps.push(depths);
                "ln_f"
            }
            Architecture::Recursive => unreachable!("mor_goldens::run_recursive has its formulas"),
        };
        let logits = x
            .iter()
            .flat_map(|x| self.linear("lm_head", &self.norm(last, x)));
        (logits.collect(), steps)
    }

    fn block(&self, name: &str, x: &mut [Vector], active: &[bool], real: &[bool]) {
        let at = |part: &str| format!("{name}.{part}");
        let names = Names(
            [
                "attn.q_proj",
                "attn.k_proj",
                "attn.v_proj",
                "attn.out_proj",
                "ff.fc1",
                "ff.fc2",
            ]
            .map(at),
        );
        let normal: Vec<Vector> = x.iter().map(|x| self.norm(&at("ln1"), x)).collect();
        let attended = self.attention(&names, &normal, active, real);
        for p in (0..x.len()).filter(|p| active[*p]) {
            x[p] = sum(&x[p], &attended[p]);
            let fed = self.feed_forward(&names, &self.norm(&at("ln2"), &x[p]));
            x[p] = sum(&x[p], &fed);
        }
    }
}

fn sum(a: &[f64], b: &[f64]) -> Vector {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// x · Φ(x), with the error function as a power series, which suffices for the values that occur here.
fn gelu(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    if z.abs() > 5.0 {
        return if x > 0.0 { x } else { 0.0 };
    }
    let (mut term, mut erf) = (z, z);
    for n in 1..200 {
        let n = f64::from(n);
        term *= -z * z / n;
        erf += term / (2.0 * n + 1.0);
    }
    x * 0.5 * (1.0 + erf * std::f64::consts::FRAC_2_SQRT_PI)
}

/// A model with random weights, in which nothing is left at the values that training starts from.
fn random(config: &ModelConfig) -> Model {
    let model = Model::new(config, &Device::flex(), 5).expect("valid");
    let specs = config.tensors();
    model.update(|parameter| {
        // Random weights leave biases at zero and gains at one, where a mistake would not show, and they hardly ever
        // route rows of the same kind differently.
        let spec = &specs[parameter.index];
        let len = parameter.values.len();
        let table = spec.component == Component::TokenEmbedding;
        for (i, value) in parameter.values.iter_mut().enumerate() {
            *value = match spec.shape.len() {
                1 if spec.component == Component::Routers => 0.1 * (i as f32).cos(),
                1 => *value + 0.3 * ((i * 7 + len + parameter.index) as f32).sin(),
                _ if table && !spec.name.contains("emb_projs") => *value * 25.0,
                _ => *value * 1.3,
            };
        }
    })
}

/// Rows of 16 ids with pads nowhere, behind, in front, between, and everywhere but at the first position. The others
/// are those of a golden batch, which the golden weights route to every depth.
fn rows(config: &ModelConfig) -> [Vec<usize>; 8] {
    let ids = common::open(CONVERSATIONAL, "b4_len16.io").to_i64("input_ids");
    let ids = ids.expect("ids");
    let row = |row: usize, pads: &[usize]| -> Vec<usize> {
        let ids = ids[row * 16..][..16].iter().enumerate();
        ids.map(|(at, id)| match pads.contains(&at) {
            true => config.pad_token_id as usize,
            false => *id as usize,
        })
        .collect()
    };
    [
        row(0, &[]),
        row(1, &[]),
        row(2, &[]),
        row(3, &[]),
        row(0, &[12, 13, 14, 15]),
        row(1, &[0, 1, 2]),
        row(2, &[0, 6, 7]),
        row(3, &(1..16).collect::<Vec<_>>()),
    ]
}

/// Compares logits and steps.
fn check(model: &Model) {
    let config = model.config();
    let tensors = model.to_tensors().into_iter();
    let reference = Reference {
        config,
        tensors: tensors
            .map(|(name, _, values)| (name, values.into_iter().map(f64::from).collect()))
            .collect(),
    };
    let rows = rows(config);
    let flat: Vec<i64> = rows.iter().flatten().map(|id| *id as i64).collect();
    let ids = Tensor::<1, Int>::from_data(flat.as_slice(), &Device::flex());
    let (found, output) = logits(model, ids.reshape([rows.len(), 16]));
    let mut depths = BTreeSet::new();
    for (at, (ids, found)) in rows.iter().zip(found.chunks_exact(16 * 97)).enumerate() {
        let (expected, steps) = reference.run(ids);
        for (layer, steps) in steps.iter().enumerate() {
            depths.extend(steps.iter().copied());
            let found = &output.steps[layer];
            let found = match found.len() == rows.len() {
                true => vec![found[at]; 16],
                false => found[at * 16..][..16].to_vec(),
            };
            assert_eq!(&found, steps, "row {at}, layer {layer} of {config:?}");
        }
        for (found, expected) in found.iter().zip(&expected) {
            let difference = (f64::from(*found) - expected).abs();
            assert!(
                difference < 1e-4,
                "row {at}: {found} and {expected} of {config:?}"
            );
        }
    }
    if config.routing.kind == RouterKind::Adaptive {
        assert!(depths.len() > 1, "one depth shows little: {config:?}");
    }
}

fn technical() -> ModelConfig {
    let mut config = common::config(TECHNICAL);
    config.routing.halted_rows = HaltedRows::Freeze;
    config
}

#[test]
fn positions() {
    for positions in [Positions::Learned, Positions::Sinusoidal, Positions::Rotary] {
        for pooling in [Pooling::Sequence, Pooling::Real, Pooling::Prefix] {
            let mut config = technical();
            config.positions = positions;
            config.routing.pooling = pooling;
            check(&random(&config));
        }
    }
}

#[test]
fn fixed_depths() {
    for depth in [0, 1, 4] {
        let mut config = technical();
        config.positions = Positions::Rotary;
        config.rope_theta = 500.0;
        config.routing.kind = RouterKind::Fixed;
        config.routing.depth = Some(depth);
        check(&random(&config));
    }
}

#[test]
fn adaptive_embeddings() {
    for mut config in [technical(), common::config(CONVERSATIONAL)] {
        config.adaptive_embedding = Some(AdaptiveEmbedding {
            cutoffs: vec![20, 50],
            div_val: 4,
        });
        if config.architecture == Architecture::Conversational {
            config.routing.kind = RouterKind::Fixed;
            config.routing.depth = Some(3);
        }
        check(&random(&config));
    }
}

#[test]
fn golden_weights() {
    let device = Device::flex();
    for pooling in [Pooling::Sequence, Pooling::Real, Pooling::Prefix] {
        let mut config = common::config(CONVERSATIONAL);
        config.routing.pooling = pooling;
        check(&common::model(CONVERSATIONAL, &config, &device));
        let mut config = technical();
        config.routing.pooling = pooling;
        check(&common::model(TECHNICAL, &config, &device));
    }
}
