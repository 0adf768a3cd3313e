//! Every operation of [`crate::ops`] with inputs that a GPU is held to the CPU on, forward and backward: what this crate's
//! tests and `mor selftest` run. Inputs follow from nothing but their shapes.

mod attention;
mod case;
mod linear;
mod losses;
mod norm;
mod routing;
mod updates;

pub use case::{Case, Difference, Function, Operand, differentiate, noise, tensor};
pub use linear::linear_gelu;
pub use losses::{IGNORE, mean_loss, row_losses};

/// An operation, and what it is tried on.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// Makes its cases.
    pub cases: fn() -> Vec<Case>,
}

/// All of them.
pub const OPERATIONS: [Operation; 11] = [
    Operation {
        name: "linear",
        cases: linear::linear_cases,
    },
    Operation {
        name: "gelu",
        cases: linear::gelu_cases,
    },
    Operation {
        name: "layer norm",
        cases: norm::cases,
    },
    Operation {
        name: "attention",
        cases: attention::attention_cases,
    },
    Operation {
        name: "rotary",
        cases: attention::rotary_cases,
    },
    Operation {
        name: "cross-entropy",
        cases: losses::cases,
    },
    Operation {
        name: "routing",
        cases: routing::cases,
    },
    Operation {
        name: "adamw",
        cases: updates::adamw_cases,
    },
    Operation {
        name: "momentum",
        cases: updates::momentum_cases,
    },
    Operation {
        name: "scaled sum",
        cases: updates::scaled_sum_cases,
    },
    Operation {
        name: "sum of squares",
        cases: updates::sum_squares_cases,
    },
];
