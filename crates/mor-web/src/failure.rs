//! Failures as JavaScript errors.

use mor_config::ConfigError;
use mor_engine::EngineError;
use mor_text::TextError;
use wasm_bindgen::JsValue;

/// The `name` of an error that is a device's fault, so that another device may do better.
const DEVICE_ERROR: &str = "DeviceError";
/// The same of a GPU that went away, and may come back.
const DEVICE_LOST: &str = "DeviceLost";

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
        if error.is_loss() {
            failure.0.set_name(DEVICE_LOST);
        } else if error.is_of_device() {
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
