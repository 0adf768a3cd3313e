//! Kernels that are wrong on purpose.

use crate::Shader;

/// Another text for the shaders of one operation: with it, tests see that a broken kernel is noticed. Nothing that users
/// can ask for leads here.
#[derive(Debug, Clone, Copy)]
pub struct Replacement {
    /// The operation, as [`Shader::label`] begins.
    pub operation: &'static str,
    /// The WGSL that takes the place of the given one.
    pub edit: fn(&str) -> String,
}

impl Replacement {
    /// `shader` with its other text, if it is one of the operation's.
    pub fn apply(&self, shader: &Shader) -> Option<Shader> {
        // "gelu portable": the variant follows.
        let rest = shader.label.strip_prefix(self.operation)?;
        let variant = rest.strip_prefix(' ')?;
        let named = crate::Variant::ALL
            .iter()
            .any(|known| variant.split(' ').next() == Some(known.name()));
        named.then(|| Shader {
            source: (self.edit)(&shader.source),
            ..shader.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gelu, copy};

    #[test]
    fn only_the_operation_is_replaced() {
        let replacement = Replacement {
            operation: "gelu",
            edit: |source| source.replace("gelu(value)", "value"),
        };
        let op = Gelu {
            stride: 4,
            biased: false,
            half: false,
        };
        let replaced = replacement.apply(&op.shader()).expect("is it");
        assert_ne!(replaced.source, op.shader().source);
        assert_eq!(replacement.apply(&op.backward()), None);
        assert_eq!(replacement.apply(&copy()), None);
    }
}
