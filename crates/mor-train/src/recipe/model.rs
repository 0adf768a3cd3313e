//! The `[model]` table: a preset and what it overrides.

use mor_config::{Architecture, ModelConfig, Preset};
use serde_json::{Map, Value};

use super::source::Source;
use crate::{Result, TrainError};

/// Keys that a configuration may have but that presets leave out.
const OPTIONAL: [&str; 4] = [
    "adaptive_embedding",
    "routing.class_steps",
    "routing.depth",
    "routing.kv",
];

/// The configuration that a `[model]` table describes.
pub(super) fn resolve(mut table: toml::Table, source: &Source) -> Result<ModelConfig> {
    let path = source.path();
    let fail = |key: &str, problem: String| source.value_error(&format!("model.{key}"), problem);
    let preset = match table.remove("preset") {
        Some(toml::Value::String(name)) => name
            .parse::<Preset>()
            .map_err(|error| fail("preset", format!("is `{name}`: {error}")))?,
        Some(other) => {
            return Err(fail(
                "preset",
                format!("is {other}; it must be a preset's name"),
            ));
        }
        None => {
            let names: Vec<_> = Preset::ALL.iter().map(|preset| preset.name()).collect();
            return Err(fail(
                "preset",
                format!(
                    "is missing; start from one of: {}, and override what differs",
                    names.join(", ")
                ),
            ));
        }
    };
    let error = |error: serde_json::Error| TrainError::Recipe {
        path: path.to_owned(),
        reason: format!("[model]: {error}"),
    };
    let mut config = serde_json::to_value(preset.config()).map_err(error)?;
    // What a recursive model has in all follows from its parts.
    let counted = table.contains_key("num_hidden_layers");
    let overrides = serde_json::to_value(table).map_err(error)?;
    if let (Value::Object(config), Value::Object(overrides)) = (&mut config, overrides) {
        merge(config, overrides, "").map_err(|(key, problem)| fail(&key, problem))?;
    }
    let mut config: ModelConfig = serde_json::from_value(config).map_err(error)?;
    if config.architecture == Architecture::Recursive && !counted {
        config.num_hidden_layers =
            config.num_prelude_layers + config.num_core_layers + config.num_coda_layers;
    }
    config.validate(path)?;
    Ok(config)
}

fn merge(
    base: &mut Map<String, Value>,
    overrides: Map<String, Value>,
    prefix: &str,
) -> Result<(), (String, String)> {
    let known: Vec<String> = base.keys().cloned().collect();
    for (key, value) in overrides {
        let full = format!("{prefix}{key}");
        match (base.get_mut(&key), value) {
            (Some(Value::Object(base)), Value::Object(inner)) => {
                merge(base, inner, &format!("{full}."))?;
            }
            (Some(slot), value) => *slot = value,
            (None, value) if OPTIONAL.contains(&full.as_str()) => {
                base.insert(key, value);
            }
            (None, _) => {
                let known = known.join(", ");
                return Err((full, format!("is unknown; there are: {known}")));
            }
        }
    }
    Ok(())
}
