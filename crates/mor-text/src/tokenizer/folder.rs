//! Tokenizers as folders: the files that Hugging Face's programs write, older ones included.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{CONFIG_FILE, TEMPLATE_FILE, TOKENIZER_FILE, Tokenizer};
use crate::added::token_name;
use crate::format::{bad, without_mark};
use crate::vocabulary::{MORE_KEYS, SPECIAL_KEYS};
use crate::{Result, TextError};

/// Names special tokens, where [`CONFIG_FILE`] has no `added_tokens_decoder`.
const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";
/// Ids of added tokens, under the same condition.
const ADDED_TOKENS_FILE: &str = "added_tokens.json";
/// Templates by name. One called `default` counts where there is no [`TEMPLATE_FILE`].
const TEMPLATES_FOLDER: &str = "additional_chat_templates";

/// What a tokenizer's folder may hold beside the two files that are written here, and what would count before these:
/// whoever writes a tokenizer into a folder removes them.
pub const OLDER_FILES: [&str; 3] = [TEMPLATE_FILE, SPECIAL_TOKENS_FILE, ADDED_TOKENS_FILE];

impl Tokenizer {
    /// Reads `tokenizer.json` and `tokenizer_config.json` from a model folder. What transformers reads beside them is
    /// read as well: `chat_template.jinja`, `additional_chat_templates`, and where there is no `added_tokens_decoder`
    /// also `special_tokens_map.json` and `added_tokens.json`.
    ///
    /// # Errors
    /// [`TextError::Io`] with the missing file, or what [`Tokenizer::from_bytes`] reports.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let template = match read_if_there(dir, TEMPLATE_FILE)? {
            Some(template) => Some(template),
            None => default_template(dir)?,
        };
        let tokenizer = read(dir, TOKENIZER_FILE)?;
        let mut config = read(dir, CONFIG_FILE)?;
        let special = read_if_there(dir, SPECIAL_TOKENS_FILE)?;
        let added = read_if_there(dir, ADDED_TOKENS_FILE)?;
        if special.is_some() || added.is_some() {
            let mut object = object(CONFIG_FILE, &config)?;
            if !object.contains_key("added_tokens_decoder") {
                let special = special.map(|bytes| self::object(SPECIAL_TOKENS_FILE, &bytes));
                let added = added.map(|bytes| self::object(ADDED_TOKENS_FILE, &bytes));
                name_specials(&mut object, special.transpose()?.unwrap_or_default());
                add_tokens(&mut object, added.transpose()?.unwrap_or_default())?;
                config = Value::from(object).to_string().into_bytes();
            }
        }
        Self::with_template(&tokenizer, &config, template.as_deref())
    }

    /// Writes both files into `dir`, which is created if need be; both appear whole, or none does. All that a tokenizer
    /// was read from is in them: [`OLDER_FILES`] of what was there before, which would count first, are removed.
    ///
    /// # Errors
    /// [`TextError::Io`] if the folder cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let staged = mor_files::StagedFolder::new(dir)?;
        mor_files::write(&staged.path().join(TOKENIZER_FILE), &self.files.0)?;
        let mut config = serde_json::to_vec_pretty(&self.files.1)
            .map_err(|error| bad(CONFIG_FILE, error.to_string()))?;
        config.push(b'\n');
        mor_files::write(&staged.path().join(CONFIG_FILE), &config)?;
        Ok(staged.commit(CONFIG_FILE, &OLDER_FILES)?)
    }
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>> {
    let path = dir.join(name);
    std::fs::read(&path).map_err(|error| TextError::io(path, error))
}

fn read_if_there(dir: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    match read(dir, name) {
        Err(TextError::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn object(name: &'static str, bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(without_mark(bytes))
        .map_err(|error| bad(name, format!("not a JSON object: {error}")))
}

/// The template called `default` of those that have a folder of their own. As in transformers, they count before
/// [`CONFIG_FILE`], so that others without it are an error.
fn default_template(dir: &Path) -> Result<Option<Vec<u8>>> {
    let folder = dir.join(TEMPLATES_FOLDER);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return Ok(None);
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".jinja"))
        .collect();
    names.sort();
    if names.is_empty() {
        return Ok(None);
    }
    read_if_there(&folder, "default.jinja")?.map(Some).ok_or_else(|| {
        bad(
            TEMPLATES_FOLDER,
            format!(
                "has the templates {}, and there is neither default.jinja in it nor {TEMPLATE_FILE} beside it; copy the \
                 one for chats to {TEMPLATE_FILE}",
                names.join(", ")
            ),
        )
    })
}

/// Adds the names of `special` to `config`; where both name a token for one purpose, `special` counts.
fn name_specials(config: &mut Map<String, Value>, special: Map<String, Value>) {
    for (key, value) in special {
        let is_list = MORE_KEYS.contains(&key.as_str());
        match (config.get_mut(&key), value) {
            (Some(Value::Array(names)), Value::Array(more)) if is_list => {
                let more: Vec<_> = more.into_iter().filter(|it| !names.contains(it)).collect();
                names.extend(more);
            }
            (_, value) if is_list || SPECIAL_KEYS.contains(&key.as_str()) => {
                config.insert(key, value);
            }
            _ => {}
        }
    }
}

/// Makes an `added_tokens_decoder` of `added`, ids by name. Those that `config` names for a purpose are special.
fn add_tokens(config: &mut Map<String, Value>, added: Map<String, Value>) -> Result<()> {
    if added.is_empty() {
        return Ok(());
    }
    let of_config = Value::from(config.clone());
    let special: Vec<&str> = crate::vocabulary::named_specials(&of_config)
        .filter_map(token_name)
        .collect();
    let mut decoder = Map::new();
    for (name, id) in added {
        let Some(number) = id.as_u64() else {
            return Err(bad(
                ADDED_TOKENS_FILE,
                format!("{name:?} must have a number as its id, not {id}"),
            ));
        };
        let special = special.contains(&name.as_str());
        let token = json!({ "content": name, "special": special, "normalized": !special });
        decoder.insert(number.to_string(), token);
    }
    config.insert("added_tokens_decoder".to_owned(), decoder.into());
    Ok(())
}
