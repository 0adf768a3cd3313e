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
    /// Relative frequency of every depth from 0 on; a whole batch gets one depth.
    pub weights: Vec<f64>,
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

    /// The depth of a step: a function of its number, the progress and the seed alone, so that a
    /// resumed run draws what an uninterrupted one would have drawn.
    pub fn sample(&self, seed: u64, step: u64, progress: f64) -> Depth {
        let reached = self
            .stages
            .iter()
            .take_while(|stage| stage.from <= progress);
        let Some(stage) = reached.last() else {
            return Depth::Configured;
        };
        let total: f64 = stage.weights.iter().sum();
        let mut draw = SplitMix64::of_stream(seed ^ STREAM, step).uniform() * total;
        let mut last = None;
        for (depth, &weight) in stage.weights.iter().enumerate() {
            if weight <= 0.0 {
                continue;
            }
            last = Some(depth);
            if draw < weight {
                break;
            }
            draw -= weight;
        }
        last.map_or(Depth::Configured, Depth::Forced)
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
            },
            DepthStage {
                from: 0.5,
                weights: vec![0.0, 0.25, 0.75],
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
