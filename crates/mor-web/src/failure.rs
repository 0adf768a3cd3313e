//! Failures as JavaScript errors.

use mor_config::ConfigError;
use mor_engine::EngineError;
use mor_text::TextError;
use wasm_bindgen::JsValue;

/// The `name` of an error that is a device's fault, so that another device may do better.
const DEVICE_ERROR: &str = "DeviceError";

/// A JavaScript `Error` with a message for a person.
pub struct Failure(js_sys::Error);

impl Failure {
    /// A failure in these words.
    pub(crate) fn new(message: &str) -> Self {
        Self(js_sys::Error::new(message))
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        failure.0.into()
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let failure = Self::new(&error.to_string());
        if is_of_device(&error) {
            failure.0.set_name(DEVICE_ERROR);
        }
        failure
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(&error.to_string())
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Self::new(&error.to_string())
    }
}

impl From<serde_wasm_bindgen::Error> for Failure {
    fn from(error: serde_wasm_bindgen::Error) -> Self {
        Self::new(&error.to_string())
    }
}

/// Whether a failure says something about the device, and not about the model or the request, which would fail anywhere.
fn is_of_device(error: &EngineError) -> bool {
    !matches!(
        error,
        EngineError::Config(_)
            | EngineError::Text(_)
            | EngineError::EmptyPrompt
            | EngineError::TokenOutOfRange { .. }
            | EngineError::ContextFull { .. }
            | EngineError::TokenizerMismatch { .. }
            | EngineError::Probe { .. }
            | EngineError::Option { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_fails_anywhere_is_not_the_devices_fault() {
        let (tokens, limit) = (9, 8);
        assert!(!is_of_device(&EngineError::ContextFull { tokens, limit }));
        assert!(!is_of_device(&EngineError::EmptyPrompt));
        let (context, bytes) = (8, 1 << 40);
        assert!(is_of_device(&EngineError::OutOfMemory { context, bytes }));
    }
}
