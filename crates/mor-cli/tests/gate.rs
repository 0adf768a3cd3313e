//! A recursive model from recipe to answer: trained at depths of each token, given gates, and asked for budgets.
#![cfg(feature = "train")]

mod common;

use common::mor;
use common::training::*;

const RECURSIVE: &str = r#"
[model]
preset = "recursive-10m"
vocab_size = 512
hidden_size = 48
num_attention_heads = 4
intermediate_size = 96
max_position_embeddings = 96

[train]
steps = 30
batch_tokens = 768
lr = 4e-3
validate_every = 30

[[train.depth]]
from = 0.0
weights = [0.0, 1.0, 1.0, 1.0]
per = "token"

[train.optimizer]
kind = "muon"
"#;

#[test]
fn gates_are_fitted_and_keep_budgets() {
    let folder = Folder::new();
    folder.write("recipe.toml", RECURSIVE);
    succeed(&mut folder.train(&[]));
    let (model, gated) = (folder.path("run/model"), folder.path("gated"));

    let eval = |model, more: &[&str]| {
        let mut command = mor();
        command.arg("eval").arg("--model").arg(model);
        let data = sample("technical-sample-valid.jsonl");
        command.arg("--data").arg(data).arg("--json").args(more);
        command
    };
    let error = fail(&mut eval(&model, &["--budget", "1.5"]), 1);
    assert!(error.contains("no gates that keep one"), "{error}");

    let gate = |more: &[&str]| {
        let mut command = mor();
        command.arg("gate").arg("--model").arg(&model);
        command.arg("--data").arg(sample("technical-sample.jsonl"));
        command
            .arg("--calibrate")
            .arg(sample("technical-sample.jsonl"));
        command.arg("--output").arg(&gated).args(more);
        command
    };
    let printed = succeed(&mut gate(&["--tokens", "3000"]));
    assert!(printed.contains("gate 2: explains"), "{printed}");

    let mean_depth = |more: &[&str]| {
        let report = succeed(&mut eval(&gated, more));
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        report["mean_depth"].as_f64().expect("a number")
    };
    for budget in ["1.0", "1.5", "2.2", "3.0"] {
        let asked: f64 = budget.parse().expect("a number");
        let found = mean_depth(&["--budget", budget]);
        assert!((found - asked).abs() < 0.1, "{budget}: {found}");
    }
    let default = mean_depth(&["--depth", "adaptive"]);
    assert!((default - 2.2).abs() < 0.1, "{default}");
    assert_eq!(mean_depth(&["--depth", "2"]), 2.0);
    let error = fail(&mut eval(&gated, &["--depth", "0"]), 1);
    assert!(error.contains("at least one loop"), "{error}");

    let generate = |more: &[&str]| {
        let mut command = mor();
        command.arg("generate").arg("--model").arg(&gated);
        command.args(["--prompt", "list files", "--max-new-tokens", "8"]);
        command.args(["--device", "cpu"]).args(more);
        command
    };
    succeed(&mut generate(&["--budget", "1.5"]));
    let error = fail(&mut generate(&["--budget", "4.0"]), 1);
    assert!(error.contains("from 1 to 3 loops"), "{error}");
    let error = fail(&mut generate(&["--budget", "1.55"]), 2);
    assert!(error.contains("one digit after the point"), "{error}");

    compares_rules(&folder, &gated);
}

/// `mor frontier` of a model with gates.
fn compares_rules(folder: &Folder, gated: &std::path::Path) {
    let report = folder.path("frontier.json");
    let mut command = mor();
    command.arg("frontier").arg("--model").arg(gated);
    command.arg("--data").arg(sample("technical-sample.jsonl"));
    command.args(["--tokens", "2000", "--json"]).arg(&report);
    let printed = succeed(&mut command);
    assert!(printed.contains("displacement"), "{printed}");

    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&report).expect("written")).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    let number = |row: &serde_json::Value, key: &str| row[key].as_f64().expect("a number");
    let of_rule = |rule: &str| -> Vec<serde_json::Value> {
        let rows = rows.iter().filter(|row| row["rule"] == rule);
        rows.cloned().collect()
    };
    let fixed = of_rule("fixed");
    assert_eq!(fixed.len(), 3);
    assert_eq!(number(&fixed[2], "delta"), 0.0);
    assert_eq!(number(&fixed[1], "mean_depth"), 2.0);
    for rule in [
        "adaptive",
        "shuffled",
        "random",
        "entropy",
        "displacement",
        "position",
        "frequency",
        "oracle",
    ] {
        let found = of_rule(rule);
        assert_eq!(found.len(), 8, "{rule}");
        for row in &found {
            let apart = number(row, "mean_depth") - number(row, "budget");
            assert!(apart.abs() < 0.35, "{row}");
            let (low, high) = (row["ci95"][0].as_f64(), row["ci95"][1].as_f64());
            assert!(low <= high, "{row}");
            let decodes = row["tokens_per_second"].is_number();
            assert_eq!(decodes, rule == "adaptive", "{row}");
        }
    }
    for (oracle, chance) in of_rule("oracle").iter().zip(of_rule("random")) {
        assert!(number(oracle, "bits_per_byte") < number(&chance, "bits_per_byte"));
    }
    // A pass of coda and head for each decision.
    let cost = |rule: &str| number(&of_rule(rule)[3], "mflop_per_token");
    assert!(cost("entropy") > 1.1 * cost("random"));
}
