//! The recursive model: blocks applied once, a core of blocks that loops, and blocks applied once.

use mor_config::ModelConfig;

use super::{Parts, Source};
use crate::{EngineError, Result};

pub(super) fn load<S: Source>(config: &ModelConfig, _source: &S) -> Result<Parts<S::Matrix>> {
    Err(EngineError::Option {
        option: "model",
        value: config.architecture.as_str().to_owned(),
        allowed: "a technical or conversational model",
    })
}
