//! Floating-point operations of a forward pass, from sizes and the depths that were taken.

use crate::{Architecture, ModelConfig, Pooling, RouterKind};

impl ModelConfig {
    /// Operations of reading a sequence of `positions` tokens and scoring each next one, a multiplication and an
    /// addition counting as two (as in Kaplan et al. 2020, "Scaling laws for neural language models"): products and
    /// attention, which is causal; norms and activations are left out. Pads cost nothing here.
    ///
    /// `steps` holds the depths of each layer of a technical model, of the shared block of a conversational one, or of the
    /// core of a recursive one: one number for the sequence, or one for each position.
    pub fn forward_flops<'a>(
        &self,
        positions: usize,
        steps: impl Iterator<Item = &'a [usize]>,
        routed: bool,
    ) -> f64 {
        let (d, ffn) = (self.hidden_size as f64, self.intermediate_size as f64);
        let block = |positions: f64| {
            let projections = 2.0 * positions * (4.0 * d * d + 2.0 * d * ffn);
            // Scores and weighted sums, over half of all pairs.
            projections + 2.0 * d * positions * (positions + 1.0)
        };
        let length = positions as f64;
        let (once, before_step) = match self.architecture {
            Architecture::Technical => (0.0, 2.0 * d * d),
            Architecture::Conversational => (self.num_hidden_layers as f64 * block(length), 0.0),
            Architecture::Recursive => {
                let around = self.num_prelude_layers + self.num_coda_layers;
                (around as f64 * block(length), 0.0)
            }
        };
        let applied = match self.architecture {
            Architecture::Technical | Architecture::Conversational => 1.0,
            Architecture::Recursive => self.num_core_layers as f64,
        };
        let mut sum = once + 2.0 * length * d * self.vocab_size as f64;
        for depths in steps {
            let deepest = depths.iter().copied().max().unwrap_or(0);
            for step in 0..deepest {
                let active = depths.iter().filter(|depth| step < **depth).count();
                let active = if depths.len() == 1 { positions } else { active } as f64;
                sum += applied * block(active) + active * before_step;
            }
            if !routed || self.routing.kind == RouterKind::Fixed {
                continue;
            }
            sum += match self.architecture {
                Architecture::Technical | Architecture::Conversational => self.router_flops(length),
                Architecture::Recursive => self.gate_flops(positions, depths),
            };
        }
        sum
    }

    /// Operations of the gates after loops that were not the last possible one, for each position that took them: the
    /// norm of the state, how far the loop moved it, and a product.
    fn gate_flops(&self, positions: usize, depths: &[usize]) -> f64 {
        let asked = |depth: &usize| (*depth).min(self.routing.max_steps - 1);
        let asked = match depths {
            [depth] => positions * asked(depth),
            depths => depths.iter().map(asked).sum(),
        };
        asked as f64 * 10.0 * self.hidden_size as f64
    }

    /// Operations of one router over a sequence.
    fn router_flops(&self, length: f64) -> f64 {
        let (d, hidden) = (self.hidden_size as f64, self.router_hidden() as f64);
        let pooler = match self.architecture {
            Architecture::Technical | Architecture::Recursive => 0.0,
            Architecture::Conversational => d * d,
        };
        let classes = self.routing.steps_of_classes().len() as f64;
        let decisions = match self.routing.pooling {
            Pooling::Prefix => length,
            Pooling::Sequence | Pooling::Real => 1.0,
        };
        length * d + decisions * 2.0 * (pooler + d * hidden + hidden * classes)
    }
}

#[cfg(test)]
mod tests {
    use crate::Preset;

    #[test]
    fn counts_two_operations_a_weight_and_position() {
        let config = Preset::Technical10m.config();
        let depths = [vec![1], vec![2], vec![0], vec![2]];
        let flops = |positions, depths: &[Vec<usize>]| {
            config.forward_flops(positions, depths.iter().map(Vec::as_slice), false)
        };
        let (d, f, v) = (384.0, 1024.0, 8192.0);
        let weights = 5.0 * (5.0 * d * d + 2.0 * d * f) + d * v;
        // One position sees itself only: a product with one key and with one value in each step.
        assert_eq!(flops(1, &depths), 2.0 * weights + 5.0 * 4.0 * d);
        let pairs = 10.0 * 11.0 / 2.0;
        assert_eq!(flops(10, &depths), 20.0 * weights + 5.0 * 4.0 * d * pairs);
    }

    #[test]
    fn positions_that_have_halted_cost_nothing() {
        let config = Preset::Conversational198m.config();
        let flops = |depths: Vec<usize>| {
            let depths = [depths];
            config.forward_flops(4, depths.iter().map(Vec::as_slice), false)
        };
        assert_eq!(flops(vec![3]), flops(vec![3; 4]));
        let block = |positions: f64| {
            2.0 * positions * (4.0 * 768.0 * 768.0 + 2.0 * 768.0 * 3072.0)
                + 2.0 * 768.0 * positions * (positions + 1.0)
        };
        let difference = flops(vec![3; 4]) - flops(vec![3, 1, 1, 3]);
        assert!((difference - 2.0 * (block(4.0) - block(2.0))).abs() < 1.0);
    }
}
