//! The files of `tests/goldens`, compiled in.

use std::path::PathBuf;

use mor_config::{ConfigError, ModelConfig, Weights};

/// An original model whose outputs are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoldenSet {
    /// The technical one.
    Technical,
    /// The conversational one.
    Conversational,
}

/// A file's name without the set's, and its bytes.
type File = (&'static str, &'static [u8]);

/// The files of a set, given how they are called.
macro_rules! files {
    ($set:literal: $($name:literal),+ $(,)?) => {
        &[$((
            $name,
            include_bytes!(concat!("../../../tests/goldens/", $set, ".", $name)),
        )),+]
    };
}

const TECHNICAL: &[File] = files!(
    "m1_learned": "config.json",
    "weights.safetensors",
    "b1_len1.io.safetensors",
    "b1_len7.io.safetensors",
    "b1_len32.io.safetensors",
    "b4_len16.io.safetensors",
    "b4_len16_rows_alone.io.safetensors",
    "b4_rightpad_attn.io.safetensors",
    "b4_rightpad_noattn.io.safetensors",
    "fixed4_b2_len9.io.safetensors",
    "gen_depth_changes.io.safetensors",
    "gen_steady.io.safetensors",
    "grads_b4_rightpad.io.safetensors",
    "train8_adamw.io.safetensors",
);

const CONVERSATIONAL: &[File] = files!(
    "m2": "config.json",
    "weights.safetensors",
    "b1_len1.io.safetensors",
    "b1_len32.io.safetensors",
    "b4_len16.io.safetensors",
    "b4_rightpad.io.safetensors",
    "b4_rightpad_loss.io.safetensors",
    "future_leak_pair.io.safetensors",
    "gen_depth_changes.io.safetensors",
    "gen_steady.io.safetensors",
    "gen_stops_at_eos.io.safetensors",
    "grads_b4_rightpad.io.safetensors",
);

impl GoldenSet {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Technical, Self::Conversational];

    /// What its files begin with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Technical => "m1_learned",
            Self::Conversational => "m2",
        }
    }

    /// The configuration of its weights.
    ///
    /// # Errors
    /// None as long as the files are those of this version.
    pub fn config(self) -> Result<ModelConfig, ConfigError> {
        let path = self.path("config.json");
        ModelConfig::from_json(self.bytes("config.json")?, &path)
    }

    /// Its weights.
    ///
    /// # Errors
    /// As for [`Self::config`].
    pub fn weights(self) -> Result<Weights, ConfigError> {
        self.open("weights")
    }

    /// A file by the part of its name between the set's and `.safetensors`, such as `b4_len16.io`.
    ///
    /// # Errors
    /// [`ConfigError::Weights`] where there is no such file.
    pub fn open(self, name: &str) -> Result<Weights, ConfigError> {
        let name = format!("{name}.safetensors");
        Weights::from_bytes(self.bytes(&name)?.to_vec(), &self.path(&name))
    }

    fn bytes(self, name: &str) -> Result<&'static [u8], ConfigError> {
        let files = match self {
            Self::Technical => TECHNICAL,
            Self::Conversational => CONVERSATIONAL,
        };
        let found = files.iter().find(|(known, _)| *known == name);
        found.map(|(_, bytes)| *bytes).ok_or_else(|| {
            let problem = "is none of the golden files".to_owned();
            let path = self.path(name);
            ConfigError::Weights { path, problem }
        })
    }

    fn path(self, name: &str) -> PathBuf {
        PathBuf::from(format!("{}.{name}", self.name()))
    }
}

/// Rows of a tensor of integers `[rows, cols]`, or its values one by one where it is `[rows]`.
///
/// # Errors
/// [`ConfigError::Weights`] where there is no such tensor, or it holds no integers.
pub fn rows(file: &Weights, name: &str) -> Result<Vec<Vec<u32>>, ConfigError> {
    let cols = match file.shape(name)? {
        [_, cols] => (*cols).max(1),
        _ => 1,
    };
    let values = file.to_i64(name)?;
    let rows = values.chunks_exact(cols);
    Ok(rows
        .map(|row| row.iter().map(|id| *id as u32).collect())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_whole_and_others_are_told() {
        for set in GoldenSet::ALL {
            let config = set.config().expect("a configuration");
            let weights = set.weights().expect("weights");
            mor_config::check_tensors(&config, &weights).expect("its own");
            let error = set.open("nothing").expect_err("unknown").to_string();
            assert!(error.contains(set.name()), "{error}");
        }
        for (name, bytes) in TECHNICAL.iter().chain(CONVERSATIONAL) {
            if name.ends_with(".safetensors") {
                Weights::from_bytes(bytes.to_vec(), name.as_ref()).expect("whole");
            }
        }
    }
}
