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
