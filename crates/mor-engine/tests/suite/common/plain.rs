//! A plain f64 forward pass over a whole sequence, written from the formulas.

use mor_config::{Architecture, ModelConfig, Pooling, Positions};

pub(crate) type Tensors = mor_goldens::Named;
type Rows = Vec<Vec<f64>>;

pub(crate) struct Plain<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) tensors: &'a Tensors,
}

pub(crate) struct Output {
    /// `[position][vocab]`
    pub(crate) logits: Rows,
    /// `[router][position]`
    pub(crate) steps: Vec<Vec<usize>>,
    /// Least difference between the two likeliest classes of any decision.
    pub(crate) margin: f64,
}

/// Names of a block's tensors.
struct Names {
    qkv: [String; 3],
    output: String,
    norm1: String,
    linear1: String,
    linear2: String,
    norm2: String,
}

impl Plain<'_> {
    /// Logits and steps of every position; `depth` overrides the routers.
    pub(crate) fn forward(&self, ids: &[u32], depth: Option<usize>) -> Output {
        let embed = |(position, id): (usize, &u32)| self.embed(*id, position);
        let mut x: Rows = ids.iter().enumerate().map(embed).collect();
        let mut output = Output {
            logits: Rows::new(),
            steps: Vec::new(),
            margin: f64::MAX,
        };
        let once = vec![1; ids.len()];
        let (last_norm, table) = match self.config.architecture {
            Architecture::Technical => {
                for layer in 0..self.config.num_hidden_layers {
                    let at = |part: &str| format!("layers.{layer}.{part}");
                    let router = at("router.complexity_classifier");
                    let names = [format!("{router}.0"), format!("{router}.3")];
                    let steps = self.route(&x, ids, None, names, depth, &mut output);
                    let projection = |step| at(&format!("step_projections.{step}"));
                    self.recur(&mut x, ids, &steps, &technical(layer), Some(&projection));
                }
                ("final_norm", "embeddings.token_embedding")
            }
            Architecture::Conversational => {
                for layer in 0..self.config.num_hidden_layers {
                    let names = conversational(&format!("layers.{layer}"));
                    self.recur(&mut x, ids, &once, &names, None);
                }
                let names = ["router.head.0", "router.head.3"].map(str::to_owned);
                let steps = self.route(&x, ids, Some("router.pooler"), names, depth, &mut output);
                let names = conversational("rec_layer.block");
                self.recur(&mut x, ids, &steps, &names, None);
                ("ln_f", "embed")
            }
            Architecture::Recursive => unreachable!("mor_goldens::run_recursive has its formulas"),
        };
        let head = if self.config.tie_word_embeddings {
            table
        } else {
            "lm_head"
        };
        let logits = |x: &Vec<f64>| self.linear(&self.norm(x, last_norm), head);
        output.logits = x.iter().map(logits).collect();
        output
    }

    /// Steps of every position of a layer with inputs `x`.
    fn route(
        &self,
        x: &Rows,
        ids: &[u32],
        pooler: Option<&str>,
        [hidden, classes]: [String; 2],
        depth: Option<usize>,
        output: &mut Output,
    ) -> Vec<usize> {
        let steps: Vec<usize> = (0..ids.len())
            .map(|position| {
                if let Some(depth) = depth {
                    return depth;
                }
                let (seen, pads) = match self.config.routing.pooling {
                    Pooling::Sequence => (ids.len(), true),
                    Pooling::Real => (ids.len(), false),
                    Pooling::Prefix => (position + 1, false),
                };
                let counted: Vec<usize> = (0..seen)
                    .filter(|p| pads || ids[*p] != self.config.pad_token_id)
                    .collect();
                let mut mean = vec![0.0; x[0].len()];
                for p in &counted {
                    for (mean, x) in mean.iter_mut().zip(&x[*p]) {
                        *mean += x / counted.len() as f64;
                    }
                }
                if let Some(pooler) = pooler {
                    mean = self.linear(&mean, pooler);
                    mean.iter_mut().for_each(|x| *x = x.tanh());
                }
                let mut inner = self.linear(&mean, &hidden);
                inner.iter_mut().for_each(|x| *x = gelu(*x));
                let scores = self.linear(&inner, &classes);
                let mut order: Vec<usize> = (0..scores.len()).collect();
                order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
                output.margin = output.margin.min(scores[order[0]] - scores[order[1]]);
                self.config.routing.steps_of_classes()[order[0]]
            })
            .collect();
        output.steps.push(steps.clone());
        steps
    }

    /// Takes every position through as many steps of a block as it has.
    fn recur(
        &self,
        x: &mut Rows,
        ids: &[u32],
        steps: &[usize],
        names: &Names,
        projection: Option<&dyn Fn(usize) -> String>,
    ) {
        let add = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
        for step in 0..steps.iter().copied().max().unwrap_or(0) {
            let takes = |position: usize| steps[position] > step;
            let seen: Vec<bool> = (0..ids.len())
                .map(|p| takes(p) && ids[p] != self.config.pad_token_id)
                .collect();
            let read = |x: &Vec<f64>| match projection {
                Some(projection) => self.linear(x, &projection(step)),
                None => self.norm(x, &names.norm1),
            };
            let z: Rows = x.iter().map(read).collect();
            let attended = self.attention(&z, names, &seen);
            for position in (0..ids.len()).filter(|position| takes(*position)) {
                let x = &mut x[position];
                *x = add(x, &attended[position]);
                let pre = projection.is_none();
                if !pre {
                    *x = self.norm(x, &names.norm1);
                }
                let input = if pre {
                    self.norm(x, &names.norm2)
                } else {
                    x.clone()
                };
                let mut inner = self.linear(&input, &names.linear1);
                inner.iter_mut().for_each(|x| *x = gelu(*x));
                *x = add(x, &self.linear(&inner, &names.linear2));
                if !pre {
                    *x = self.norm(x, &names.norm2);
                }
            }
        }
    }

    fn attention(&self, z: &Rows, names: &Names, seen: &[bool]) -> Rows {
        let head_dim = self.config.head_dim();
        let project = |name: &str, rotate: bool| -> Rows {
            let rows = z.iter().enumerate().map(|(position, z)| {
                let mut row = self.linear(z, name);
                if rotate {
                    self.rotate(&mut row, position);
                }
                row
            });
            rows.collect()
        };
        let [q, k, v] = &names.qkv;
        let (q, k, v) = (project(q, true), project(k, true), project(v, false));
        let mix = |at: usize| {
            let mut out = vec![0.0; z[0].len()];
            for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                let channels = head * head_dim..(head + 1) * head_dim;
                let weight = |p: usize| {
                    let score: f64 = channels.clone().map(|c| q[at][c] * k[p][c]).sum();
                    (score / (head_dim as f64).sqrt()).exp()
                };
                let keys: Vec<usize> = (0..=at).filter(|p| seen[*p]).collect();
                let total: f64 = keys.iter().map(|p| weight(*p)).sum();
                for p in &keys {
                    for (i, c) in channels.clone().enumerate() {
                        out[i] += weight(*p) / total * v[*p][c];
                    }
                }
            }
            self.linear(&out, &names.output)
        };
        (0..z.len()).map(mix).collect()
    }

    fn embed(&self, id: u32, position: usize) -> Vec<f64> {
        let dim = self.config.hidden_size;
        let (table, technical) = match self.config.architecture {
            Architecture::Technical => ("embeddings.token_embedding", true),
            Architecture::Conversational | Architecture::Recursive => ("embed", false),
        };
        let mut x = if self.config.adaptive_embedding.is_some() {
            let mut bands = self.config.embedding_bands().into_iter().enumerate();
            let (band, (ids, width)) = bands
                .find(|(_, (ids, _))| ids.contains(&(id as usize)))
                .expect("a band");
            let row = (id as usize - ids.start) * width;
            let narrow = &self.tensors[&format!("{table}.emb_layers.{band}.weight")][row..];
            self.linear(&narrow[..width], &format!("{table}.emb_projs.{band}"))
        } else {
            self.tensors[&format!("{table}.weight")][id as usize * dim..][..dim].to_vec()
        };
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
        if technical {
            self.norm(&x, "embeddings.layer_norm")
        } else {
            x
        }
    }

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
}

fn technical(layer: usize) -> Names {
    let at = |part: &str| format!("layers.{layer}.{part}");
    Names {
        qkv: ["w_q", "w_k", "w_v"].map(|part| at(&format!("attention.{part}"))),
        output: at("attention.w_o"),
        norm1: at("norm1"),
        linear1: at("feedforward.linear1"),
        linear2: at("feedforward.linear2"),
        norm2: at("norm2"),
    }
}

fn conversational(block: &str) -> Names {
    let at = |part: &str| format!("{block}.{part}");
    Names {
        qkv: ["q_proj", "k_proj", "v_proj"].map(|part| at(&format!("attn.{part}"))),
        output: at("attn.out_proj"),
        norm1: at("ln1"),
        linear1: at("ff.fc1"),
        linear2: at("ff.fc2"),
        norm2: at("ln2"),
    }
}

/// x · Φ(x), with erf from its series.
fn gelu(x: f64) -> f64 {
    let t = x / std::f64::consts::SQRT_2;
    // Beyond, the series cancels, and erf is ±1 in f32.
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
