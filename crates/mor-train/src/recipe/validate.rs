//! Every value of a recipe against its range and against the others.

use mor_config::{Architecture, RouterKind};

use super::{OptimizerSettings, Recipe};
use crate::Result;
use crate::depth::Per;

/// Largest batch in positions: bounds what a typing error can allocate.
const MAX_BATCH_TOKENS: usize = 1 << 22;

impl Recipe {
    /// Checks every value of `[train]`; the model's are checked where they are read.
    ///
    /// # Errors
    /// [`crate::TrainError::Value`], naming the key, the value found and what is allowed.
    pub(super) fn validate(&self) -> Result<()> {
        let train = &self.train;
        let given = [
            train.steps.is_some(),
            train.epochs.is_some(),
            train.minutes.is_some(),
        ];
        match given.iter().filter(|&&given| given).count() {
            0 => return self.fail("steps", "is missing; give one of steps, epochs or minutes"),
            1 => {}
            _ => {
                return self.fail(
                    "steps",
                    "and epochs and minutes exclude each other; give one of them",
                );
            }
        }
        self.whole("steps", train.steps.unwrap_or(1), 1, u64::MAX)?;
        self.real("epochs", train.epochs.unwrap_or(1.0), Range::positive())?;
        self.real("minutes", train.minutes.unwrap_or(1.0), Range::positive())?;
        match (train.batch_tokens, train.batch_rows) {
            (None, None) => {
                return self.fail("batch_tokens", "is missing; give it or batch_rows");
            }
            (Some(_), Some(_)) => {
                return self.fail(
                    "batch_tokens",
                    "and batch_rows exclude each other; give one",
                );
            }
            _ => {}
        }
        let most = MAX_BATCH_TOKENS as u64;
        self.whole(
            "batch_tokens",
            train.batch_tokens.unwrap_or(1) as u64,
            1,
            most,
        )?;
        self.whole("batch_rows", train.batch_rows.unwrap_or(1) as u64, 1, most)?;
        self.whole("accumulate", train.accumulate as u64, 1, 1024)?;
        let longest = self.model.max_position_embeddings as u64;
        if let Some(context) = train.context {
            self.whole("context", context as u64, 1, longest)?;
        }
        self.real("lr", train.lr, Range::positive())?;
        self.real("warmup", train.warmup, Range::share())?;
        self.whole("warmup_steps", train.warmup_steps.unwrap_or(0), 0, u64::MAX)?;
        self.real("decay_fraction", train.decay_fraction, Range::share())?;
        if train.decay_fraction == 0.0 {
            return self.fail("decay_fraction", "is 0; it must be above 0 and at most 1");
        }
        self.real("floor", train.floor, Range::share())?;
        self.real("clip_norm", train.clip_norm, Range::not_negative())?;
        self.whole("validate_every", train.validate_every, 1, u64::MAX)?;
        if let Some(rows) = train.validate_rows {
            self.whole("validate_rows", rows as u64, 1, u64::MAX)?;
        }
        self.real(
            "checkpoint_minutes",
            train.checkpoint_minutes,
            Range::positive(),
        )?;
        self.whole(
            "checkpoint_steps",
            train.checkpoint_steps.unwrap_or(1),
            1,
            u64::MAX,
        )?;
        self.whole("keep", train.keep as u64, 1, 10_000)?;
        self.real("loss_scale", train.loss_scale, Range::positive())?;
        self.real(
            "compute_penalty",
            train.compute_penalty,
            Range::not_negative(),
        )?;
        self.validate_router()?;
        if let Some(ema) = train.ema {
            self.real("ema", ema, Range::below_one())?;
        }
        self.validate_optimizer()?;
        self.validate_depth()
    }

    fn validate_router(&self) -> Result<()> {
        let router = &self.train.router;
        self.real("router.weight", router.weight.into(), Range::not_negative())?;
        self.real("router.max_loss", router.max_loss.into(), Range::positive())?;
        let rising = router.thresholds.windows(2).all(|pair| pair[0] < pair[1]);
        let positive = router
            .thresholds
            .iter()
            .all(|at| at.is_finite() && *at > 0.0);
        if !(rising && positive) {
            return self.fail("router.thresholds", "must be positive numbers that rise");
        }
        Ok(())
    }

    fn validate_optimizer(&self) -> Result<()> {
        let (betas, epsilon) = match self.train.optimizer {
            OptimizerSettings::AdamW(adamw) => {
                self.real(
                    "optimizer.weight_decay",
                    adamw.weight_decay,
                    Range::not_negative(),
                )?;
                (adamw.betas, adamw.epsilon)
            }
            OptimizerSettings::Muon(muon) => {
                self.real("optimizer.momentum", muon.momentum, Range::below_one())?;
                let not_negative = [
                    ("optimizer.weight_decay", muon.weight_decay),
                    ("optimizer.embedding_rate", muon.embedding_rate),
                    ("optimizer.vector_rate", muon.vector_rate),
                ];
                for (key, value) in not_negative {
                    self.real(key, value, Range::not_negative())?;
                }
                (muon.betas, muon.epsilon)
            }
        };
        for beta in betas {
            self.real("optimizer.betas", beta, Range::below_one())?;
        }
        self.real("optimizer.epsilon", epsilon, Range::positive())
    }

    fn validate_depth(&self) -> Result<()> {
        if self.train.depth.is_empty() {
            return Ok(());
        }
        let steps = self.model.routing.max_steps;
        if self.model.routing.kind == RouterKind::Adaptive {
            return self.fail(
                "depth",
                "needs model.routing.kind = \"fixed\"; an adaptive model decides its own depth",
            );
        }
        let mut previous = None;
        for stage in &self.train.depth {
            self.real("depth.from", stage.from, Range::below_one())?;
            match previous {
                None if stage.from != 0.0 => {
                    return self.fail("depth.from", "of the first stage must be 0");
                }
                Some(previous) if stage.from <= previous => {
                    return self.fail("depth.from", "must rise from stage to stage");
                }
                _ => previous = Some(stage.from),
            }
            if stage.weights.len() > steps + 1 {
                let found = stage.weights.len();
                return self.fail(
                    "depth.weights",
                    format!(
                        "has {found} entries; depths 0..={steps} allow at most {}",
                        steps + 1
                    ),
                );
            }
            let recursive = self.model.architecture == Architecture::Recursive;
            if stage.per == Per::Token && !recursive {
                return self.fail(
                    "depth.per",
                    "is \"token\", which needs a recursive model; others take \"batch\"",
                );
            }
            if recursive && stage.weights.first().is_some_and(|weight| *weight > 0.0) {
                return self.fail(
                    "depth.weights",
                    "begin above 0; a recursive model takes at least one loop",
                );
            }
            for &weight in &stage.weights {
                self.real("depth.weights", weight, Range::not_negative())?;
            }
            if stage.weights.iter().sum::<f64>() <= 0.0 {
                return self.fail("depth.weights", "are all zero; some depth must be possible");
            }
        }
        Ok(())
    }

    fn fail<T>(&self, key: &str, problem: impl Into<String>) -> Result<T> {
        Err(self.error(&format!("train.{key}"), problem))
    }

    fn whole(&self, key: &str, value: u64, least: u64, most: u64) -> Result<()> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        let allowed = match most {
            u64::MAX => format!("at least {least}"),
            most => format!("from {least} to {most}"),
        };
        self.fail(key, format!("is {value}; it must be {allowed}"))
    }

    fn real(&self, key: &str, value: f64, range: Range) -> Result<()> {
        if value.is_finite() && (range.allows)(value) {
            return Ok(());
        }
        self.fail(key, format!("is {value}; it must be {}", range.words))
    }
}

struct Range {
    allows: fn(f64) -> bool,
    words: &'static str,
}

impl Range {
    fn positive() -> Self {
        Self {
            allows: |value| value > 0.0,
            words: "above 0",
        }
    }

    fn not_negative() -> Self {
        Self {
            allows: |value| value >= 0.0,
            words: "at least 0",
        }
    }

    fn share() -> Self {
        Self {
            allows: |value| (0.0..=1.0).contains(&value),
            words: "from 0 to 1",
        }
    }

    fn below_one() -> Self {
        Self {
            allows: |value| (0.0..1.0).contains(&value),
            words: "at least 0 and below 1",
        }
    }
}
