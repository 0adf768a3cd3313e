//! `FILE` or `FILE=WEIGHT` on a command line.

use std::path::{Path, PathBuf};

/// Largest weight: beyond it somebody meant something else.
const MAX_WEIGHT: f64 = 1000.0;

/// A file, and how often each of its rows is taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    pub(super) weight: f64,
}

impl std::str::FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = Self {
            path: text.into(),
            weight: 1.0,
        };
        // A file may well be called so.
        let Some((path, weight)) = text.rsplit_once('=').filter(|_| !Path::new(text).exists())
        else {
            return Ok(whole);
        };
        let Ok(weight) = weight.parse::<f64>() else {
            return Ok(whole);
        };
        if weight > 0.0 && weight <= MAX_WEIGHT && !path.is_empty() {
            return Ok(Self {
                path: path.into(),
                weight,
            });
        }
        Err(format!(
            "a weight lies above 0 and is at most {MAX_WEIGHT}, as in {path}=0.5"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        let of = |text: &str| text.parse::<Input>().map(|it| (it.path, it.weight));
        assert_eq!(of("a.jsonl"), Ok(("a.jsonl".into(), 1.0)));
        assert_eq!(of("a.jsonl=2"), Ok(("a.jsonl".into(), 2.0)));
        assert_eq!(of("a=b=0.5"), Ok(("a=b".into(), 0.5)));
        assert_eq!(of("a=b.txt"), Ok(("a=b.txt".into(), 1.0)));
        for bad in ["a=0", "a=-1", "a=inf", "a=nan", "a=1e9", "=2"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
