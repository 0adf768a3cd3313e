//! The cross-entropy of rows of logits.

use crate::routing::{COLUMNS, grid};
use crate::rows::meeting;
use crate::shader::{self, Builder};
use crate::{MOST_ROUNDS, Shader, Variant, element};

/// Below every logit, without overflow in differences.
const LOWEST: f32 = -3.0e38;
/// Invocations of a workgroup that shares a row.
const SHARING: u32 = 256;
/// Invocations of a workgroup that does not; few, so that they fill all cores.
const PORTABLE: u32 = 16;
/// The most logits that an invocation reads alone, four a round.
const MOST_ALONE: u32 = 4 * MOST_ROUNDS;

/// `-log softmax(logits)[target]` of rows, zero where the target is the one to ignore or beyond the vocabulary. See
/// `shaders/row_losses.wgsl`.
///
/// Bindings: `logits: [rows][vocab]`; `targets: [rows]` of i32; the results `losses: [rows]` and, for the backward
/// pass, `lse: [rows]`, both f32; `params` of u32: rows, the bits of the target to ignore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowLosses {
    /// Logits of a row.
    pub vocab: u32,
    /// Whether they are f16.
    pub half: bool,
}

impl RowLosses {
    /// The forward pass. Grid: [`Self::workgroups`].
    pub fn shader(&self, variant: Variant) -> Shader {
        let variant = self.suited(variant);
        let builder = Builder::new("row losses", variant, group_size(variant));
        let file = include_str!("../../../shaders/row_losses.wgsl");
        self.build(builder.float("LOWEST", LOWEST), file)
    }

    /// The backward pass: the same in every variant, as nothing is shared. Bindings: `targets`, `lse`; `d_losses: [rows]` of f32; `logits`, which their gradients take
    /// the place of; `params`. Grid: [`Self::backward_workgroups`].
    pub fn backward(&self) -> Shader {
        let builder = Builder::new("row losses backward", Variant::Portable, 64);
        let file = include_str!("../../../shaders/row_losses_backward.wgsl");
        self.build(builder.constant("COLUMNS", COLUMNS), file)
    }

    /// The grid of the forward pass over `rows`.
    pub fn workgroups(&self, variant: Variant, rows: u32) -> [u32; 3] {
        match self.suited(variant) {
            Variant::Portable => shader::grid(rows.div_ceil(PORTABLE)),
            Variant::Workgroup | Variant::Subgroup => shader::grid(rows),
        }
    }

    /// The grid of the backward pass over `rows`.
    pub fn backward_workgroups(&self, rows: u32) -> [u32; 3] {
        grid(self.vocab, rows)
    }

    /// Rows that are too long for one invocation are shared.
    fn suited(&self, variant: Variant) -> Variant {
        match self.vocab > MOST_ALONE {
            true => meeting(variant),
            false => variant,
        }
    }

    fn build(&self, builder: Builder, file: &str) -> Shader {
        let builder = builder
            .constant("VOCAB", self.vocab)
            .include(include_str!("../../../shaders/include/targets.wgsl"));
        element::build(builder, file, self.half)
    }
}

fn group_size(variant: Variant) -> u32 {
    match variant {
        Variant::Portable => PORTABLE,
        Variant::Workgroup | Variant::Subgroup => SHARING,
    }
}
