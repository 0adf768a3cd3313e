//! How deep each training step runs: a distribution over forced depths that may change over a run.

use mor_config::Depth;
use serde::{Deserialize, Serialize};

use mor_math::SplitMix64;

/// One stage of the curriculum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepthStage {
    /// Progress from which on this stage holds, in `[0, 1)`.
    pub from: f64,
    /// Relative frequency of every depth from 0 on.
    pub weights: Vec<f64>,
    /// What gets a depth of its own.
    #[serde(default, skip_serializing_if = "is_batch")]
    pub per: Per,
}

/// What gets a depth of its own in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each batch.
    #[default]
    Batch,
    /// Each position of a recursive model, as its gates will have it.
    Token,
}

fn is_batch(per: &Per) -> bool {
    *per == Per::Batch
}

/// The depth of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum BatchDepth {
    /// One for all of it.
    One(Depth),
    /// One for each of its positions.
    Each(Vec<usize>),
}

/// The curriculum: stages in ascending order of `from`. Empty: the model's configured depth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DepthPlan {
    stages: Vec<DepthStage>,
}

/// The stream of random numbers that depths are drawn from.
const STREAM: u64 = 0x6465_7074;

impl DepthPlan {
    /// A plan from validated stages.
    pub fn new(stages: Vec<DepthStage>) -> Self {
        Self { stages }
    }

    /// The depths of a batch of `positions`, number `batch` of its step: a function of these numbers, the progress and the
    /// seed alone, so that a resumed run draws what an uninterrupted one would have drawn.
    pub fn sample_batch(
        &self,
        seed: u64,
        step: u64,
        batch: u64,
        progress: f64,
        positions: usize,
    ) -> BatchDepth {
        match self.stage(progress) {
            Some(stage) if stage.per == Per::Token => {
                let seed = SplitMix64::of_stream(seed ^ STREAM, step).next_u64();
                let mut draws = SplitMix64::of_stream(seed, batch);
                let depths = (0..positions).map(|_| stage.draw(draws.uniform()).unwrap_or(1));
                BatchDepth::Each(depths.collect())
            }
            _ => BatchDepth::One(self.sample(seed, step, progress)),
        }
    }

    /// The depth of a step whose batches all get one.
    fn sample(&self, seed: u64, step: u64, progress: f64) -> Depth {
        let Some(stage) = self.stage(progress) else {
            return Depth::Configured;
        };
        let drawn = stage.draw(SplitMix64::of_stream(seed ^ STREAM, step).uniform());
        drawn.map_or(Depth::Configured, Depth::Forced)
    }

    fn stage(&self, progress: f64) -> Option<&DepthStage> {
        let reached = self
            .stages
            .iter()
            .take_while(|stage| stage.from <= progress);
        reached.last()
    }
}

impl DepthStage {
    /// The depth that a number from 0 to 1 stands for.
    fn draw(&self, uniform: f64) -> Option<usize> {
        let total: f64 = self.weights.iter().sum();
        let mut draw = uniform * total;
        let mut last = None;
        for (depth, &weight) in self.weights.iter().enumerate() {
            if weight <= 0.0 {
                continue;
            }
            last = Some(depth);
            if draw < weight {
                break;
            }
            draw -= weight;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> DepthPlan {
        DepthPlan::new(vec![
            DepthStage {
                from: 0.0,
                weights: vec![0.0, 1.0, 0.0],
                per: Per::Batch,
            },
            DepthStage {
                from: 0.5,
                weights: vec![0.0, 0.25, 0.75],
                per: Per::Batch,
            },
        ])
    }

    #[test]
    fn follows_its_stages() {
        let plan = plan();
        assert!((0..100).all(|step| plan.sample(1, step, 0.49) == Depth::Forced(1)));
        let deep = (0..4000)
            .filter(|&step| plan.sample(1, step, 0.5) == Depth::Forced(2))
            .count();
        assert!((2880..3120).contains(&deep), "{deep} of 4000");
        assert_eq!(DepthPlan::default().sample(1, 0, 0.0), Depth::Configured);
    }

    #[test]
    fn positions_get_depths_of_their_own() {
        let plan = DepthPlan::new(vec![DepthStage {
            from: 0.0,
            weights: vec![0.0, 1.0, 3.0],
            per: Per::Token,
        }]);
        let draw = |step, batch| match plan.sample_batch(1, step, batch, 0.0, 4000) {
            BatchDepth::Each(depths) => depths,
            BatchDepth::One(depth) => panic!("{depth:?} for all"),
        };
        let depths = draw(3, 0);
        let deep = depths.iter().filter(|depth| **depth == 2).count();
        assert!((2880..3120).contains(&deep), "{deep} of 4000");
        assert_eq!(
            deep + depths.iter().filter(|depth| **depth == 1).count(),
            4000
        );
        assert_eq!(depths, draw(3, 0));
        assert_ne!(depths, draw(3, 1));
        assert_ne!(depths, draw(4, 0));
    }

    #[test]
    fn repeats_from_the_seed() {
        let draw = |seed| {
            (0..64)
                .map(|s| plan().sample(seed, s, 0.9))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
