//! How deep a model runs, as commands are told.

use mor_config::{Budget, Depth};

/// How deep the model runs; as its configuration says where neither is given.
#[derive(clap::Args, Debug, Clone, Copy, Default)]
pub(crate) struct DepthArgs {
    /// Steps in every recursive layer, of the shared block, or loops of the core; or adaptive, what routers or gates decide.
    #[arg(long, value_name = "N|adaptive", value_parser = parse, conflicts_with = "budget")]
    depth: Option<Depth>,
    /// Mean number of loops that the gates of a recursive model are asked for, such as 1.6.
    #[arg(long, value_name = "X")]
    budget: Option<Budget>,
}

impl DepthArgs {
    /// What was asked for.
    pub(crate) fn depth(self) -> Depth {
        let budget = self.budget.map(Depth::Budget);
        self.depth.or(budget).unwrap_or_default()
    }
}

/// A number of steps, or `adaptive`.
fn parse(text: &str) -> Result<Depth, String> {
    match text {
        "adaptive" => Ok(Depth::Adaptive),
        number => number.parse().map(Depth::Forced).map_err(|_| {
            format!("`{number}` is no depth; expected a number of steps, or adaptive")
        }),
    }
}

/// As a chat is told: as [`parse`], a budget such as 1.6, or nothing, for what the configuration says.
pub(crate) fn in_chat(text: &str) -> Result<Depth, String> {
    match text {
        "" => Ok(Depth::Configured),
        budget if budget.contains('.') => budget.parse().map(Depth::Budget),
        other => parse(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_a_number_a_budget_or_a_word() {
        let budget = Depth::Budget(Budget::beyond_one(6));
        for (text, depth) in [
            ("", Some(Depth::Configured)),
            ("2", Some(Depth::Forced(2))),
            ("1.6", Some(budget)),
            ("adaptive", Some(Depth::Adaptive)),
            ("0.5", None),
            ("deep", None),
        ] {
            assert_eq!(in_chat(text).ok(), depth, "{text}");
        }
        assert!(parse("1.6").is_err());
    }
}
