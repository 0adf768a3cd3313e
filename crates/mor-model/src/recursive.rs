//! The layers of a recursive model: a prelude, a core that loops, gates that let positions out of it, and a coda.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Bool, Int, Tensor, TensorData, activation};
use mor_config::LoopKeys;

use crate::mode::Mode;
use crate::ops::{self, Positions};
use crate::{Block, Body, ForwardOptions, Gate, Model, ModelError};

/// The layers of a recursive model.
#[derive(Module, Debug)]
pub struct Recursive {
    /// Blocks that run once, first to last.
    pub prelude: Vec<Block>,
    /// Blocks that loop, first to last.
    pub core: Vec<Block>,
    /// One after each loop but the last possible one; none where depth is fixed.
    pub gates: Vec<Gate>,
    /// Blocks that run once afterwards.
    pub coda: Vec<Block>,
    /// What a loop sees of positions that have halted.
    #[module(skip)]
    pub kv: LoopKeys,
}

/// How often positions loop.
pub(crate) enum Loops {
    /// As often as these say, `[batch · seq]`, row by row.
    Given(Vec<usize>),
    /// As often as gates let them: while the probability of going on exceeds this. After the last loop there is no gate.
    Gated(f32),
}

impl Recursive {
    /// Runs the layers on `x: [batch, seq, dim]`; returns the result and how often each position looped. `key_mask:
    /// [batch, seq]` is true at the keys that may be seen.
    ///
    /// What has halted is not computed. A position's result depends on earlier ones only, and on how often these looped.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        key_mask: Option<&Tensor<2, Bool>>,
        loops: Loops,
        mode: Mode,
    ) -> (Tensor<3>, Vec<usize>) {
        let x = once(&self.prelude, x, key_mask, mode);
        let (x, depths) = self.recur(x, key_mask, loops, mode);
        (once(&self.coda, x, key_mask, mode), depths)
    }

    fn recur(
        &self,
        mut x: Tensor<3>,
        key_mask: Option<&Tensor<2, Bool>>,
        loops: Loops,
        mode: Mode,
    ) -> (Tensor<3>, Vec<usize>) {
        let [batch, seq, _] = x.dims();
        let (mut depths, gated) = match loops {
            Loops::Given(depths) => (depths, None),
            Loops::Gated(threshold) => (vec![1; batch * seq], Some(threshold)),
        };
        // Keys and values of each block of the core at the last loop that a position took, `[batch, seq, dim]`.
        let mut kept: Vec<Option<[Tensor<3>; 2]>> = vec![None; self.core.len()];
        for step in 0.. {
            let going: Vec<usize> = (0..depths.len()).filter(|at| depths[*at] > step).collect();
            if going.is_empty() {
                break;
            }
            let before = x.clone();
            let some = (going.len() < depths.len()).then(|| Going::new(&going, &x));
            let mask = match (&some, self.kv) {
                (Some(some), LoopKeys::Active) => Some(some.mask(key_mask)),
                _ => key_mask.cloned(),
            };
            x = match &some {
                None => self.step_of_all(x, mask, &mut kept, mode),
                Some(some) => self.step_of_some(x, some, mask, &mut kept, mode),
            };
            let (Some(threshold), Some(gate)) = (gated, self.gates.get(step)) else {
                continue;
            };
            let rows = |x: Tensor<3>| match &some {
                None => x,
                Some(some) => some.gather(x),
            };
            let goes_on = activation::sigmoid(gate.forward(rows(x.clone()), rows(before)));
            let goes_on = goes_on.into_data().convert::<f32>();
            let goes_on = goes_on.as_slice::<f32>().unwrap_or_default();
            for (at, goes_on) in going.iter().zip(goes_on) {
                depths[*at] += usize::from(*goes_on > threshold);
            }
        }
        (x, depths)
    }

    /// A loop that all positions take.
    fn step_of_all(
        &self,
        x: Tensor<3>,
        key_mask: Option<Tensor<2, Bool>>,
        kept: &mut [Option<[Tensor<3>; 2]>],
        mode: Mode,
    ) -> Tensor<3> {
        let blocks = self.core.iter().zip(kept);
        blocks.fold(x, |x, (block, kept)| {
            let heads = block.attention.heads;
            block.forward_with(x, None, mode, |q, k, v| {
                *kept = Some([k.clone(), v.clone()]);
                ops::causal_attention(q, k, v, key_mask.clone(), heads)
            })
        })
    }

    /// A loop of the positions that go on. Attention alone runs on whole rows: it is a small part of the work, and their
    /// keys are among those of the halted.
    fn step_of_some(
        &self,
        x: Tensor<3>,
        some: &Going,
        key_mask: Option<Tensor<2, Bool>>,
        kept: &mut [Option<[Tensor<3>; 2]>],
        mode: Mode,
    ) -> Tensor<3> {
        let blocks = self.core.iter().zip(kept);
        let chosen = blocks.fold(some.gather(x.clone()), |chosen, (block, kept)| {
            let heads = block.attention.heads;
            block.forward_with(chosen, Some(&some.positions), mode, |q, k, v| {
                let [keys, values] = kept
                    .take()
                    .unwrap_or_else(|| [x.zeros_like(), x.zeros_like()]);
                let (keys, values) = (some.scatter(keys, k), some.scatter(values, v));
                *kept = Some([keys.clone(), values.clone()]);
                let queries = some.scatter(x.zeros_like(), q);
                some.gather(ops::causal_attention(
                    queries,
                    keys,
                    values,
                    key_mask.clone(),
                    heads,
                ))
            })
        });
        some.scatter(x, chosen)
    }
}

impl Model {
    /// What a recursive model makes of `ids: [batch, seq]` before its core and after each of `max_steps` loops of all
    /// positions, `[batch, seq, dim]` each; `None` for other families. Gates are fitted to these.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn loop_states(
        &self,
        ids: Tensor<2, Int>,
        options: &ForwardOptions,
    ) -> Result<Option<Vec<Tensor<3>>>, ModelError> {
        let Body::Recursive(body) = &self.body else {
            return Ok(None);
        };
        let key_mask = self.key_mask(&ids, options)?;
        let mode = Mode {
            training: false,
            matmul: options.matmul,
        };
        let embedded = self.embeddings.forward(ids, mode);
        let mut states = vec![once(&body.prelude, embedded, key_mask.as_ref(), mode)];
        for _ in 0..self.config().routing.max_steps {
            if let Some(last) = states.last().cloned() {
                states.push(once(&body.core, last, key_mask.as_ref(), mode));
            }
        }
        Ok(Some(states))
    }

    /// What [`Self::forward`] would give as `hidden` had all positions left the core with `state: [batch, seq, dim]`, one of
    /// [`Self::loop_states`] of the same `ids`.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn after_loops(
        &self,
        state: Tensor<3>,
        ids: &Tensor<2, Int>,
        options: &ForwardOptions,
    ) -> Result<Tensor<3>, ModelError> {
        let key_mask = self.key_mask(ids, options)?;
        let mode = Mode {
            training: false,
            matmul: options.matmul,
        };
        Ok(self.final_norm.forward(match &self.body {
            Body::Recursive(body) => once(&body.coda, state, key_mask.as_ref(), mode),
            Body::Technical(_) | Body::Conversational(_) => state,
        }))
    }
}

/// Blocks that all positions of `x: [batch, seq, dim]` pass once, first to last.
fn once(
    blocks: &[Block],
    x: Tensor<3>,
    key_mask: Option<&Tensor<2, Bool>>,
    mode: Mode,
) -> Tensor<3> {
    let pass = |x, block: &Block| block.forward(x, key_mask, None, mode);
    blocks.iter().fold(x, pass)
}

/// The positions of a batch that take a loop, gathered so that the others cost nothing.
struct Going {
    count: usize,
    /// Numbers of the positions among all of the batch.
    list: Tensor<1, Int>,
    /// Where they are in their rows.
    positions: Arc<Positions>,
    /// Of all positions, which go on, `[batch, seq]`.
    goes: Tensor<2, Bool>,
}

impl Going {
    /// Those with these numbers, of `x: [batch, seq, dim]`.
    fn new(going: &[usize], x: &Tensor<3>) -> Self {
        let ([batch, seq, _], device) = (x.dims(), x.device());
        let list: Vec<i64> = going.iter().map(|at| *at as i64).collect();
        let mut goes = vec![false; batch * seq];
        going.iter().for_each(|at| goes[*at] = true);
        Self {
            count: going.len(),
            list: Tensor::from_data(list.as_slice(), &device),
            positions: Arc::new(going.iter().map(|at| (at % seq) as u32).collect()),
            goes: Tensor::from_data(TensorData::new(goes, [batch, seq]), &device),
        }
    }

    /// `[batch, seq, dim]` to `[1, count, dim]`.
    fn gather(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, dim] = x.dims();
        let x = x.reshape([batch * seq, dim]);
        ops::gather_rows(x, self.list.clone(), self.count).reshape([1, self.count, dim])
    }

    /// `x: [batch, seq, dim]` with `rows: [1, count, dim]` in their places.
    fn scatter(&self, x: Tensor<3>, rows: Tensor<3>) -> Tensor<3> {
        let [batch, seq, dim] = x.dims();
        let (x, rows) = (
            x.reshape([batch * seq, dim]),
            rows.reshape([self.count, dim]),
        );
        ops::scatter_rows(x, rows, self.list.clone()).reshape([batch, seq, dim])
    }

    /// The keys that may be seen and go on.
    fn mask(&self, key_mask: Option<&Tensor<2, Bool>>) -> Tensor<2, Bool> {
        match key_mask {
            Some(mask) => self.goes.clone().bool_and(mask.clone()),
            None => self.goes.clone(),
        }
    }
}
