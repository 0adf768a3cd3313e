//! Against a plain f64 forward pass: every kind of position, tied heads, f16 weights, portions and threads.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use half::f16;
use mor_config::{Depth, ModelConfig, Positions, Preset, Weights};
use mor_engine::{DecodeOptions, Decoder, LoadOptions, Model, WeightPrecision};
use safetensors::{Dtype, tensor::TensorView};

type Tensors = HashMap<String, Vec<f64>>;

fn config(positions: Positions) -> ModelConfig {
    let mut config = Preset::Technical10m.config();
    config.vocab_size = 61;
    config.hidden_size = 40;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 2;
    config.intermediate_size = 72;
    config.max_position_embeddings = 48;
    config.positions = positions;
    config
}

/// Random tensors whose values are exact in f16, and the file that holds them.
fn tensors(config: &ModelConfig, dtype: Dtype) -> (Tensors, Weights) {
    let mut state = 12345_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    let (mut named, mut encoded) = (Tensors::new(), Vec::new());
    for spec in config.tensors() {
        let gain = spec.name.contains("norm") && spec.name.ends_with("weight");
        let scale = 2.5 / (*spec.shape.last().expect("a shape") as f64).sqrt();
        let values: Vec<f16> = (0..spec.shape.iter().product())
            .map(|_| f16::from_f64(random() * scale + if gain { 1.0 } else { 0.0 }))
            .collect();
        let bytes: Vec<u8> = match dtype {
            Dtype::F16 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            _ => values
                .iter()
                .flat_map(|v| v.to_f32().to_le_bytes())
                .collect(),
        };
        named.insert(
            spec.name.clone(),
            values.iter().map(|v| v.to_f64()).collect(),
        );
        encoded.push((spec.name, spec.shape, bytes));
    }
    let views = encoded.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(dtype, shape.clone(), bytes).expect("bytes fit the shape");
        (name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).expect("serializable");
    (
        named,
        Weights::from_bytes(file, Path::new("model.safetensors")).expect("whole"),
    )
}

struct Reference<'a> {
    config: &'a ModelConfig,
    tensors: &'a Tensors,
}

impl Reference<'_> {
    fn linear(&self, x: &[f64], name: &str) -> Vec<f64> {
        let weight = &self.tensors[&format!("{name}.weight")];
        let bias = self.tensors.get(&format!("{name}.bias"));
        let product = |(i, row): (usize, &[f64])| {
            let bias = bias.map_or(0.0, |bias| bias[i]);
            row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias
        };
        weight
            .chunks_exact(x.len())
            .enumerate()
            .map(product)
            .collect()
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let (gain, bias) = (
            &self.tensors[&format!("{name}.weight")],
            &self.tensors[&format!("{name}.bias")],
        );
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (variance + f64::from(self.config.layer_norm_eps)).sqrt();
        (0..x.len())
            .map(|i| (x[i] - mean) * scale * gain[i] + bias[i])
            .collect()
    }

    fn embed(&self, id: u32, position: usize) -> Vec<f64> {
        let dim = self.config.hidden_size;
        let table = &self.tensors["embeddings.token_embedding.weight"];
        let mut x = table[id as usize * dim..][..dim].to_vec();
        for (i, x) in x.iter_mut().enumerate() {
            let angle = position as f64 / 10_000_f64.powf((i / 2 * 2) as f64 / dim as f64);
            *x += match self.config.positions {
                Positions::Learned => {
                    self.tensors["embeddings.pos_encoding.pos_embedding.weight"][position * dim + i]
                }
                Positions::Sinusoidal if i % 2 == 0 => angle.sin(),
                Positions::Sinusoidal => angle.cos(),
                Positions::Rotary => 0.0,
            };
        }
        self.norm(&x, "embeddings.layer_norm")
    }

    fn rotate(&self, x: &mut [f64], position: usize) {
        if self.config.positions != Positions::Rotary {
            return;
        }
        let head_dim = self.config.head_dim();
        for head in x.chunks_exact_mut(head_dim) {
            for i in 0..head_dim / 2 {
                let exponent = 2.0 * i as f64 / head_dim as f64;
                let angle = position as f64 / f64::from(self.config.rope_theta).powf(exponent);
                let (a, b) = (head[i], head[i + head_dim / 2]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + head_dim / 2] = a * angle.sin() + b * angle.cos();
            }
        }
    }

    fn attention(&self, z: &[Vec<f64>], name: &str, ids: &[u32]) -> Vec<Vec<f64>> {
        let head_dim = self.config.head_dim();
        let project = |part: &str, rotate: bool| -> Vec<Vec<f64>> {
            let rows = z.iter().enumerate().map(|(position, z)| {
                let mut row = self.linear(z, &format!("{name}.{part}"));
                if rotate {
                    self.rotate(&mut row, position);
                }
                row
            });
            rows.collect()
        };
        let (q, k, v) = (
            project("w_q", true),
            project("w_k", true),
            project("w_v", false),
        );
        let mix = |at: usize| {
            let mut out = vec![0.0; z[0].len()];
            for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                let channels = head * head_dim..(head + 1) * head_dim;
                let weight = |p: usize| {
                    let score: f64 = channels.clone().map(|c| q[at][c] * k[p][c]).sum();
                    (score / (head_dim as f64).sqrt()).exp()
                };
                let seen: Vec<usize> = (0..=at)
                    .filter(|p| ids[*p] != self.config.pad_token_id)
                    .collect();
                let total: f64 = seen.iter().map(|p| weight(*p)).sum();
                for p in &seen {
                    for (i, c) in channels.clone().enumerate() {
                        out[i] += weight(*p) / total * v[*p][c];
                    }
                }
            }
            self.linear(&out, &format!("{name}.w_o"))
        };
        (0..z.len()).map(mix).collect()
    }

    /// Logits of every position at a fixed depth.
    fn logits(&self, ids: &[u32], depth: usize) -> Vec<Vec<f64>> {
        let add = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
        let mut x: Vec<Vec<f64>> = ids
            .iter()
            .enumerate()
            .map(|(position, id)| self.embed(*id, position))
            .collect();
        for layer in 0..self.config.num_hidden_layers {
            let at = |part: &str| format!("layers.{layer}.{part}");
            for step in 0..depth {
                let z: Vec<_> = x
                    .iter()
                    .map(|x| self.linear(x, &at(&format!("step_projections.{step}"))))
                    .collect();
                let a = self.attention(&z, &at("attention"), ids);
                for (x, a) in x.iter_mut().zip(a) {
                    *x = self.norm(&add(x, &a), &at("norm1"));
                    let mut inner = self.linear(x, &at("feedforward.linear1"));
                    inner.iter_mut().for_each(|x| *x = gelu(*x));
                    let f = self.linear(&inner, &at("feedforward.linear2"));
                    *x = self.norm(&add(x, &f), &at("norm2"));
                }
            }
        }
        let head = if self.config.tie_word_embeddings {
            "embeddings.token_embedding"
        } else {
            "lm_head"
        };
        x.iter()
            .map(|x| self.linear(&self.norm(x, "final_norm"), head))
            .collect()
    }
}

/// x · Φ(x), with erf from its series.
fn gelu(x: f64) -> f64 {
    let t = x / std::f64::consts::SQRT_2;
    let (mut term, mut sum) = (t, t);
    for n in 1..100 {
        term *= -t * t / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    0.5 * x * (1.0 + sum * std::f64::consts::FRAC_2_SQRT_PI)
}

#[test]
fn logits_match_a_plain_forward_pass() {
    // With pads in the middle, which later positions must not see.
    let ids: Vec<u32> = (0..45)
        .map(|i| if i % 11 == 7 { 0 } else { (i * 17 + 3) % 61 })
        .collect();
    for positions in [Positions::Rotary, Positions::Sinusoidal, Positions::Learned] {
        for (tied, dtype) in [(true, Dtype::F16), (false, Dtype::F32)] {
            let config = ModelConfig {
                tie_word_embeddings: tied,
                ..config(positions)
            };
            let (named, weights) = tensors(&config, dtype);
            let reference = Reference {
                config: &config,
                tensors: &named,
            };
            for (depth, precision, threads, portion) in [
                (1, WeightPrecision::AsStored, 1, 45),
                (2, WeightPrecision::F32, 2, 7),
                (2, WeightPrecision::F16, 1, 1),
            ] {
                let options = LoadOptions {
                    precision,
                    isa: None,
                };
                let model = Model::from_parts_with(config.clone(), &weights, options);
                let model = Arc::new(model.expect("a model"));
                let options = DecodeOptions {
                    depth: Depth::Forced(depth),
                    threads,
                    ..DecodeOptions::default()
                };
                let mut decoder = Decoder::new(model, options).expect("a decoder");
                for ids in ids.chunks(portion) {
                    decoder.prefill(ids).expect("fits");
                }
                let mut row = vec![0.0; 61];
                for (position, expected) in reference.logits(&ids, depth).iter().enumerate() {
                    decoder.logits_at(position, &mut row).expect("a position");
                    for (a, e) in row.iter().zip(expected) {
                        assert!(
                            (f64::from(*a) - e).abs() < 5e-5,
                            "{positions:?}, depth {depth}, position {position}: {a}, not {e}"
                        );
                    }
                }
            }
        }
    }
}
