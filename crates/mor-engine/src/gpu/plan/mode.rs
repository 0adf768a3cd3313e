//! Who decides depth, and when that is known.

use mor_config::{ModelConfig, Pooling};

use crate::{DecodeOptions, Result, Routing};

/// Who decides depth, and when it is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nobody: it is this many steps.
    Fixed(usize),
    /// Routers, whose decisions stay on the GPU: each position has its own, or the prompt's holds for all.
    OnDevice,
    /// Routers, for all positions anew with every token. A token is decoded as if they decided as before, which is
    /// checked with its result; where they did not, the context is read again.
    Live,
}

impl Mode {
    /// The depth of layers that recur, where routers do not decide.
    pub(crate) fn fixed(self) -> Option<usize> {
        match self {
            Self::Fixed(depth) => Some(depth),
            Self::OnDevice | Self::Live => None,
        }
    }

    /// # Errors
    /// [`crate::EngineError::Config`] when the depth exceeds the model's `max_steps`.
    pub(crate) fn of(config: &ModelConfig, options: DecodeOptions) -> Result<Self> {
        let pooling = config.routing.pooling;
        Ok(match config.resolve_depth(options.depth)? {
            Some(depth) => Self::Fixed(depth),
            None if pooling == Pooling::Prefix || options.routing == Routing::Locked => {
                Self::OnDevice
            }
            None => Self::Live,
        })
    }
}
