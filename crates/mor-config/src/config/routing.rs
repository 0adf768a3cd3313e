//! Where and how depth is decided.

use serde::{Deserialize, Serialize};

use super::{Budget, is_default};

/// How depth is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouterKind {
    /// A router classifies its pooled input into one of [`RoutingConfig::steps_of_classes`]; in the recursive model, a gate
    /// after each loop says which positions go on.
    Adaptive,
    /// Always [`RoutingConfig::depth`] steps; the model has no router.
    Fixed,
}

/// Which positions a router pools over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// All positions, pads included: the technical original. Later tokens change earlier depths.
    Sequence,
    /// All positions that are not pads: the conversational original. Later tokens change earlier depths.
    Real,
    /// The position itself and those before it, pads left out. Each position then has a depth of its own and, at
    /// each step, attends to the positions that took that step: later tokens change nothing.
    Prefix,
}

/// What happens to a row that has halted while others of its batch go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HaltedRows {
    /// It stays as it is, so that a row's result never depends on its batch.
    Freeze,
    /// It still passes both layer norms of each step: the original.
    Renormalize,
}

/// What a later loop of the recursive model sees of a position that has halted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoopKeys {
    /// The keys and values of the last loop that it took.
    #[default]
    Deepest,
    /// Nothing: a loop sees the positions that take it.
    Active,
}

/// Where and how depth is decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingConfig {
    /// How depth is decided.
    pub kind: RouterKind,
    /// The most steps that a layer, or the shared block, can take. In the technical model each has a step projection
    /// of its own.
    pub max_steps: usize,
    /// Steps for each of the conversational router's classes, increasing, up to `max_steps`. The technical model's
    /// classes are `0..=max_steps`, and its list stays empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_steps: Vec<usize>,
    /// Steps under [`RouterKind::Fixed`]; defaults to `max_steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// What a router pools over.
    #[serde(default = "default_pooling")]
    pub pooling: Pooling,
    /// What happens to halted rows of a batch.
    #[serde(default = "default_halted_rows")]
    pub halted_rows: HaltedRows,
    /// What later loops of a recursive model see of halted positions.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kv: LoopKeys,
    /// What a gate of a recursive model must exceed for a position to go on: one number for each [`Budget`] from one loop to
    /// `max_steps`, as calibration measured it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<f32>,
    /// Mean loops of a recursive model where nothing else is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

impl RoutingConfig {
    /// The number of steps that each class of a router stands for.
    pub fn steps_of_classes(&self) -> Vec<usize> {
        if self.class_steps.is_empty() {
            (0..=self.max_steps).collect()
        } else {
            self.class_steps.clone()
        }
    }
}

fn default_pooling() -> Pooling {
    Pooling::Sequence
}

fn default_halted_rows() -> HaltedRows {
    HaltedRows::Freeze
}

/// A depth asked for at run time, overriding the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// As the configuration says: routed, or its fixed depth.
    #[default]
    Configured,
    /// This many steps in every layer, or of the shared block, or loops of the core.
    Forced(usize),
    /// As routers or gates decide; an error for a model without.
    Adaptive,
    /// As the gates of a recursive model decide, at this mean.
    Budget(Budget),
}
