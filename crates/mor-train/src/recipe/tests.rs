use super::*;

const RECIPE: &str = r#"
tokenizer = "../models/x"
[model]
preset = "technical-10m"
num_hidden_layers = 5
[model.routing]
max_steps = 1
depth = 1
[train]
minutes = 10
batch_tokens = 4096
lr = 1e-3
[[train.depth]]
from = 0.0
weights = [0.0, 1.0]
[train.optimizer]
kind = "muon"
momentum = 0.9
"#;

fn parse(text: &str) -> Result<Recipe> {
    Recipe::parse(text, Path::new("configs/r.toml"), &[])
}

#[test]
fn overrides_a_preset_and_fills_in_defaults() {
    let recipe = parse(RECIPE).expect("valid");
    assert_eq!(recipe.model.num_hidden_layers, 5);
    assert_eq!(recipe.model.routing.max_steps, 1);
    assert_eq!(recipe.model.vocab_size, 8192);
    assert_eq!(
        recipe.tokenizer.as_deref(),
        Some(Path::new("configs/../models/x"))
    );
    assert_eq!(recipe.train.budget(), Budget::Minutes(10.0));
    assert_eq!(recipe.train.warmup, 0.05);
    let OptimizerSettings::Muon(muon) = recipe.train.optimizer else {
        panic!("asked for Muon");
    };
    assert_eq!((muon.momentum, muon.betas), (0.9, [0.9, 0.99]));
}

#[test]
fn names_file_key_value_and_what_is_allowed() {
    let cases = [
        (
            "batch_tokens = 4096",
            "batch_tokens = 0",
            "`train.batch_tokens` is 0; it must be from 1",
        ),
        (
            "minutes = 10",
            "minutes = 0",
            "`train.minutes` is 0; it must be above 0",
        ),
        (
            "minutes = 10",
            "minutes = 10\nsteps = 5",
            "exclude each other",
        ),
        ("minutes = 10", "", "give one of steps, epochs or minutes"),
        (
            "minutes = 10",
            "minutes = 10\ncontext = 257",
            "`train.context` is 257; it must be from 1 to 256",
        ),
        ("lr = 1e-3", "lr = -1", "`train.lr` is -1"),
        ("lr = 1e-3", "l = 1", "unknown field `l`"),
        ("[0.0, 1.0]", "[0.0, 0.0]", "all zero"),
        ("[0.0, 1.0]", "[0.0, 1.0, 1.0]", "allow at most 2"),
        ("momentum = 0.9", "momentum = 1.0", "at least 0 and below 1"),
        ("momentum = 0.9", "nesterov = 1", "nesterov"),
        (
            "technical-10m",
            "technical-11m",
            "no preset is called `technical-11m`",
        ),
        (
            "num_hidden_layers = 5",
            "num_layers = 5",
            "`model.num_layers` is unknown",
        ),
        (
            "num_hidden_layers = 5",
            "num_hidden_layers = 0",
            "`num_hidden_layers` is 0",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(RECIPE.contains(from));
        let error = parse(&RECIPE.replace(from, to)).expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: {error}");
        assert!(error.starts_with("configs/r.toml: "), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

/// Every key that a recipe may have stands in the documentation.
#[test]
fn every_key_is_documented() {
    let text = include_str!("../../../../configs/README.md");
    let muon = OptimizerSettings::Muon(MuonSettings {
        momentum: 0.9,
        weight_decay: 0.1,
        betas: [0.9, 0.99],
        epsilon: 1e-8,
        embedding_rate: 0.5,
        vector_rate: 1.0,
    });
    let full = TrainSettings {
        steps: Some(1),
        epochs: Some(1.0),
        minutes: Some(1.0),
        batch_rows: Some(1),
        context: Some(1),
        warmup_steps: Some(1),
        validate_rows: Some(1),
        samples: vec![String::new()],
        checkpoint_steps: Some(1),
        ema: Some(0.5),
        optimizer: muon,
        ..parse(RECIPE).expect("valid").train
    };
    fn keys(value: &serde_json::Value, into: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    into.push(key.clone());
                    keys(value, into);
                }
            }
            serde_json::Value::Array(list) => list.iter().for_each(|value| keys(value, into)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    keys(&serde_json::to_value(&full).expect("JSON"), &mut all);
    assert!(all.len() > 40, "{all:?}");
    for key in all {
        // The tables of depth and optimizer have headings of their own.
        let documented =
            text.contains(&format!("`{key}`")) || text.contains(&format!("train.{key}"));
        assert!(documented, "`{key}` is not in configs/README.md");
    }
}

#[test]
fn keys_can_be_changed_from_outside() {
    let read = |changes: &[&str]| {
        let changes: Vec<Override> = changes
            .iter()
            .map(|c| c.parse().expect("KEY=VALUE"))
            .collect();
        Recipe::parse(RECIPE, Path::new("configs/r.toml"), &changes)
    };
    let recipe = read(&[
        "train.lr=3e-4",
        "model.num_hidden_layers=6",
        "train.optimizer.momentum = 0.8",
        "train.schedule=linear",
        "train.router.thresholds=[5, 9.5]",
    ])
    .expect("valid");
    assert_eq!(recipe.train.lr, 3e-4);
    assert_eq!(recipe.model.num_hidden_layers, 6);
    assert_eq!(recipe.train.schedule, crate::schedule::Decay::Linear);
    assert_eq!(recipe.train.router.thresholds, [5.0, 9.5]);
    let OptimizerSettings::Muon(muon) = recipe.train.optimizer else {
        panic!("asked for Muon");
    };
    assert_eq!(muon.momentum, 0.8);

    for (change, expected) in [
        ("train.lr=-1", "--set: `train.lr` is -1"),
        ("train.l=1", "--set: unknown field `l`"),
        ("train.lr.x=1", "--set train.lr.x: `lr` is not a table"),
        ("model.preset=none", "--set: `model.preset` is `none`"),
    ] {
        let error = read(&[change]).expect_err(change).to_string();
        assert!(error.contains(expected), "{change}: {error}");
    }
    assert!("train.lr".parse::<Override>().is_err() && "=1".parse::<Override>().is_err());
}

#[test]
fn errors_name_the_line() {
    let cases = [
        ("lr = 1e-3", "lr = -1", "line 12: `train.lr` is -1"),
        (
            "weights = [0.0, 1.0]",
            "weights = [0.0]",
            "line 15: `train.depth.weights` are all zero",
        ),
        ("minutes = 10\n", "", "line 9: `train.steps` is missing"),
        (
            "num_hidden_layers",
            "layers",
            "line 5: `model.layers` is unknown",
        ),
        ("momentum = 0.9", "momentum = \"x\"", "line 16: "),
    ];
    for (from, to, expected) in cases {
        let error = parse(&RECIPE.replace(from, to)).expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn the_resolved_recipe_is_a_recipe_of_the_same_run() {
    let recipe = parse(RECIPE).expect("valid");
    let text = recipe.resolved().expect("TOML");
    let again = parse(&text).expect("a recipe");
    assert_eq!((again.model, again.train), (recipe.model, recipe.train));
}
