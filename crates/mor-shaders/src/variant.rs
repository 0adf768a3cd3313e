//! How a kernel shares its work among invocations.

use std::fmt;
use std::str::FromStr;

/// How a kernel shares its work among invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Every invocation on its own, without barriers: for adapters that run shaders on the processor, where a barrier
    /// costs more than the work around it.
    Portable,
    /// Invocations of a workgroup meet in shared memory.
    Workgroup,
    /// As [`Self::Workgroup`], with sums by subgroup operations.
    Subgroup,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Workgroup, Self::Subgroup];

    /// A short name, which [`FromStr`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Workgroup => "workgroup",
            Self::Subgroup => "subgroup",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no variant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseVariantError(String);

impl fmt::Display for ParseVariantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no kernel variant; use portable, workgroup or subgroup",
            self.0
        )
    }
}

impl std::error::Error for ParseVariantError {}

impl FromStr for Variant {
    type Err = ParseVariantError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|v| v.name() == text);
        named.ok_or_else(|| ParseVariantError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_others_told() {
        for variant in Variant::ALL {
            assert_eq!(variant.name().parse(), Ok(variant));
        }
        let error = "fast".parse::<Variant>().expect_err("unknown");
        assert!(error.to_string().starts_with("`fast` is no kernel variant"));
    }
}
