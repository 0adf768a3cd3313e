//! The golden cases that an engine without batches can run, as tables for every device.

use mor_config::{ConfigError, Depth, Weights};

use crate::{GoldenSet, rows};

/// Ids of the golden vocabulary.
const VOCAB: usize = 97;
/// The conversational model's end token.
pub const END: u32 = 95;

/// A row of a case, which is run alone.
#[derive(Debug, Clone)]
pub struct GoldenRow {
    /// Its case and number.
    pub what: String,
    /// How deep to run it.
    pub depth: Depth,
    /// Its token ids.
    pub ids: Vec<u32>,
    /// By position, `[VOCAB]` each.
    pub logits: Vec<Vec<f32>>,
    /// At the last token, by router.
    pub steps: Vec<u32>,
    /// Of each router's classes, where it decides and the case tells.
    pub probabilities: Vec<Vec<f32>>,
}

/// A greedy generation, for each token of which the last `window` ids are computed anew.
#[derive(Debug, Clone)]
pub struct GoldenText {
    /// Its set and case.
    pub what: String,
    /// Ids that the model sees.
    pub window: usize,
    /// Ids that it begins with.
    pub prompt: Vec<u32>,
    /// Ids that follow.
    pub generated: Vec<u32>,
    /// By token, then by router.
    pub steps: Vec<Vec<u32>>,
}

impl GoldenSet {
    /// Every row of its cases.
    ///
    /// # Errors
    /// As for [`Self::config`].
    pub fn rows(self) -> Result<Vec<GoldenRow>, ConfigError> {
        match self {
            Self::Technical => technical_rows(),
            Self::Conversational => conversational_rows(),
        }
    }

    /// Its generations.
    ///
    /// # Errors
    /// As for [`Self::config`].
    pub fn texts(self) -> Result<Vec<GoldenText>, ConfigError> {
        let (window, cases): (usize, &[&str]) = match self {
            Self::Technical => (32, &["gen_depth_changes", "gen_steady"]),
            Self::Conversational => (64, &["gen_depth_changes", "gen_steady", "gen_stops_at_eos"]),
        };
        let text = |case: &&str| {
            let file = self.open(&format!("{case}.io"))?;
            Ok(GoldenText {
                what: format!("{} {case}", self.name()),
                window,
                prompt: rows(&file, "prompt_ids")?.concat(),
                generated: rows(&file, "generated_ids")?.concat(),
                steps: rows(&file, "steps_per_token")?,
            })
        };
        cases.iter().map(text).collect()
    }
}

fn technical_rows() -> Result<Vec<GoldenRow>, ConfigError> {
    let open = |case: &str| GoldenSet::Technical.open(&format!("{case}.io"));
    let configured = Depth::Configured;
    let mut all = Vec::new();
    for case in ["b1_len1", "b1_len7", "b1_len32"] {
        let file = open(case)?;
        let mut rows = batch(case, &file, "logits", "steps", configured)?;
        let probabilities = file.to_f32("router_probs")?;
        if let Some(row) = rows.first_mut() {
            row.probabilities = probabilities.chunks_exact(5).map(<[f32]>::to_vec).collect();
        }
        all.append(&mut rows);
    }
    let case = "b4_len16_rows_alone";
    let alone = batch(
        case,
        &open(case)?,
        "logits_alone",
        "steps_alone",
        configured,
    )?;
    all.extend(alone);
    let case = "fixed4_b2_len9";
    let fixed = Depth::Forced(4);
    all.extend(batch(case, &open(case)?, "logits", "steps", fixed)?);
    Ok(all)
}

fn conversational_rows() -> Result<Vec<GoldenRow>, ConfigError> {
    let mut all = Vec::new();
    for case in [
        "b1_len1",
        "b1_len32",
        "b4_len16",
        "b4_rightpad",
        "b4_rightpad_loss",
        "future_leak_pair",
    ] {
        let file = GoldenSet::Conversational.open(&format!("{case}.io"))?;
        let mut rows = batch(case, &file, "logits", "steps", Depth::Configured)?;
        let router = file.to_f32("router_logits")?;
        for (row, scores) in rows.iter_mut().zip(router.chunks_exact(3)) {
            let total: f32 = scores.iter().map(|x| x.exp()).sum();
            let softmax = scores.iter().map(|x| x.exp() / total);
            row.probabilities = vec![softmax.collect()];
        }
        all.append(&mut rows);
    }
    Ok(all)
}

/// The rows of a file whose steps are `[routers, rows]`, or `[rows]` of one router.
fn batch(
    case: &str,
    file: &Weights,
    logits: &str,
    steps: &str,
    depth: Depth,
) -> Result<Vec<GoldenRow>, ConfigError> {
    let ids = rows(file, "input_ids")?;
    let logits = file.to_f32(logits)?;
    let steps = rows(file, steps)?.concat();
    let count = ids.len().max(1);
    let of_row = (logits.len() / count).max(1);
    let all = ids.into_iter().zip(logits.chunks_exact(of_row)).enumerate();
    let rows = all.map(|(row, (ids, logits))| GoldenRow {
        what: format!("{case}, row {row}"),
        depth,
        ids,
        logits: logits.chunks_exact(VOCAB).map(<[f32]>::to_vec).collect(),
        steps: steps.iter().skip(row).step_by(count).copied().collect(),
        probabilities: Vec::new(),
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_logits_at_every_position_and_steps_of_every_router() {
        for (set, routers) in [(GoldenSet::Technical, 3), (GoldenSet::Conversational, 1)] {
            let rows = set.rows().expect("golden files");
            assert!(rows.len() > 5);
            for row in rows {
                assert_eq!(row.logits.len(), row.ids.len(), "{}", row.what);
                assert_eq!(row.steps.len(), routers, "{}", row.what);
            }
            for text in set.texts().expect("golden files") {
                assert_eq!(text.steps.len(), text.generated.len(), "{}", text.what);
            }
        }
    }
}
