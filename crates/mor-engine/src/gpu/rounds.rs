//! Loops that a driver which plays a GPU on the processor would end early, see [`MOST_ROUNDS`].

use mor_shaders::MOST_ROUNDS;

use super::kernels::{Maker, attention};
use crate::{EngineError, Result};

/// Columns that a single invocation adds up in several passes.
const MOST_COLUMNS: u64 = MOST_ROUNDS as u64 / 4;

impl Maker<'_> {
    /// Whether all kernels of a context run to their end, which other GPUs' always do.
    ///
    /// # Errors
    /// [`EngineError::GpuLimit`].
    pub(super) fn check_rounds(&self) -> Result<()> {
        let gpu = &self.model.gpu;
        if !gpu.description().software {
            return Ok(());
        }
        let check = |what: &str, needed: u64, limit: u64| match needed <= limit {
            true => Ok(()),
            false => Err(EngineError::GpuLimit {
                adapter: gpu.description().to_string(),
                what: what.to_owned(),
                needed,
                limit,
                remedy: "use the CPU",
            }),
        };
        let (config, variant) = (&self.model.config, gpu.variant());
        let decode = self.attention_decode().most_keys(variant);
        let prefill = attention(config, false).most_keys(variant);
        check(
            "a context's positions, which attention loops over,",
            config.max_position_embeddings as u64,
            decode.min(prefill).into(),
        )?;
        check(
            "a row's values, which kernels loop over,",
            config.hidden_size.max(config.intermediate_size) as u64,
            MOST_COLUMNS,
        )?;
        let routers = self.model.layers.iter().filter_map(|l| l.route.as_ref());
        let rounds = routers.map(|router| {
            let parts = router
                .pooler
                .iter()
                .chain([&router.hidden, &router.classes]);
            parts.map(|dense| dense.rounds()).sum()
        });
        check(
            "a router's loops, in rounds,",
            rounds.max().unwrap_or(0),
            // Norm and means take the rest.
            u64::from(MOST_ROUNDS) / 2,
        )
    }
}
