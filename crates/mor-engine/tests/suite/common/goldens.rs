//! The golden cases that an engine without batches can run, as tables for every device.

use mor_config::{Depth, Weights};

use super::{golden, rows};

/// Ids of the golden vocabulary.
pub(crate) const VOCAB: usize = 97;
/// The conversational model's end token.
pub(crate) const END: u32 = 95;

/// A row of a case, which is run alone.
pub(crate) struct GoldenRow {
    pub(crate) what: String,
    pub(crate) depth: Depth,
    pub(crate) ids: Vec<u32>,
    /// By position, `[VOCAB]` each.
    pub(crate) logits: Vec<Vec<f32>>,
    /// At the last token, by router.
    pub(crate) steps: Vec<u32>,
    /// Of each router's classes, where it decides and the case tells.
    pub(crate) probabilities: Vec<Vec<f32>>,
}

/// A greedy generation, for each token of which the last `window` ids are computed anew.
pub(crate) struct GoldenText {
    pub(crate) what: String,
    pub(crate) window: usize,
    pub(crate) prompt: Vec<u32>,
    pub(crate) generated: Vec<u32>,
    /// By token, then by router.
    pub(crate) steps: Vec<Vec<u32>>,
}

/// The rows of a golden model: `m1_learned` or `m2`.
pub(crate) fn golden_rows(set: &str) -> Vec<GoldenRow> {
    match set {
        "m1_learned" => technical_rows(),
        _ => conversational_rows(),
    }
}

fn technical_rows() -> Vec<GoldenRow> {
    let open = |case: &str| golden("m1_learned", &format!("{case}.io"));
    let mut all = Vec::new();
    for case in ["b1_len1", "b1_len7", "b1_len32"] {
        let file = open(case);
        let mut rows = batch(case, &file, "logits", "steps", Depth::Configured);
        let probabilities = file.to_f32("router_probs").expect("probabilities");
        rows[0].probabilities = probabilities.chunks_exact(5).map(<[f32]>::to_vec).collect();
        all.append(&mut rows);
    }
    let case = "b4_len16_rows_alone";
    let configured = Depth::Configured;
    all.extend(batch(
        case,
        &open(case),
        "logits_alone",
        "steps_alone",
        configured,
    ));
    let case = "fixed4_b2_len9";
    all.extend(batch(
        case,
        &open(case),
        "logits",
        "steps",
        Depth::Forced(4),
    ));
    all
}

fn conversational_rows() -> Vec<GoldenRow> {
    let mut all = Vec::new();
    for case in [
        "b1_len1",
        "b1_len32",
        "b4_len16",
        "b4_rightpad",
        "b4_rightpad_loss",
        "future_leak_pair",
    ] {
        let file = golden("m2", &format!("{case}.io"));
        let mut rows = batch(case, &file, "logits", "steps", Depth::Configured);
        let router = file.to_f32("router_logits").expect("router logits");
        for (row, scores) in rows.iter_mut().zip(router.chunks_exact(3)) {
            let total: f32 = scores.iter().map(|x| x.exp()).sum();
            let softmax = scores.iter().map(|x| x.exp() / total);
            row.probabilities = vec![softmax.collect()];
        }
        all.append(&mut rows);
    }
    all
}

/// The rows of a file whose steps are `[routers, rows]`, or `[rows]` of one router.
fn batch(case: &str, file: &Weights, logits: &str, steps: &str, depth: Depth) -> Vec<GoldenRow> {
    let ids = rows(file, "input_ids");
    let logits = file.to_f32(logits).expect("logits");
    let steps = rows(file, steps).concat();
    let logits = logits.chunks_exact(ids[0].len() * VOCAB);
    let count = ids.len();
    let all = ids.into_iter().zip(logits).enumerate();
    all.map(|(row, (ids, logits))| GoldenRow {
        what: format!("{case}, row {row}"),
        depth,
        ids,
        logits: logits.chunks_exact(VOCAB).map(<[f32]>::to_vec).collect(),
        steps: steps.iter().skip(row).step_by(count).copied().collect(),
        probabilities: Vec::new(),
    })
    .collect()
}

/// The generations of a golden model.
pub(crate) fn golden_texts(set: &str) -> Vec<GoldenText> {
    let cases: (usize, &[&str]) = match set {
        "m1_learned" => (32, &["gen_depth_changes", "gen_steady"]),
        _ => (64, &["gen_depth_changes", "gen_steady", "gen_stops_at_eos"]),
    };
    let (window, cases) = cases;
    let text = |case: &&str| {
        let file = golden(set, &format!("{case}.io"));
        GoldenText {
            what: format!("{set} {case}"),
            window,
            prompt: rows(&file, "prompt_ids").concat(),
            generated: rows(&file, "generated_ids").concat(),
            steps: rows(&file, "steps_per_token"),
        }
    };
    cases.iter().map(text).collect()
}
