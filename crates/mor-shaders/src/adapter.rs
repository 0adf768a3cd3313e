//! What can be said of a GPU before, and of its kernels after it is opened.

use std::fmt;
use std::path::Path;

use crate::{ParseVariantError, Variant};

/// Environment variable that overrides the choice of kernels: `portable`, `workgroup` or `subgroup`.
pub const VARIANT_VARIABLE: &str = "MOR_GPU_VARIANT";

impl Variant {
    /// What [`VARIANT_VARIABLE`] asks for, if it is set.
    ///
    /// # Errors
    /// [`ParseVariantError`] when that is no variant's name.
    pub fn from_environment() -> Result<Option<Self>, ParseVariantError> {
        let asked = std::env::var(VARIANT_VARIABLE).ok();
        let asked = asked.as_deref().filter(|name| !name.is_empty());
        asked.map(str::parse).transpose()
    }

    /// The variant that suits an adapter: whether it is the processor, and whether it has subgroup operations.
    pub fn suited_to(software: bool, subgroups: bool) -> Self {
        match (software, subgroups) {
            // There a barrier costs more than the work around it.
            (true, _) => Self::Portable,
            (false, true) => Self::Subgroup,
            (false, false) => Self::Workgroup,
        }
    }

    /// The variant to use: the one that is asked for, else [`Self::suited_to`] the adapter.
    ///
    /// # Errors
    /// [`MissingSubgroupsError`] when subgroups are asked for where there are none.
    pub fn chosen(
        asked: Option<Self>,
        software: bool,
        subgroups: bool,
    ) -> Result<Self, MissingSubgroupsError> {
        match asked {
            Some(Self::Subgroup) if !subgroups => Err(MissingSubgroupsError),
            Some(variant) => Ok(variant),
            None => Ok(Self::suited_to(software, subgroups)),
        }
    }
}

/// Kernels were asked for that the adapter cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingSubgroupsError;

impl fmt::Display for MissingSubgroupsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this adapter has no subgroup operations; use workgroup or portable, or leave it unset",
        )
    }
}

impl std::error::Error for MissingSubgroupsError {}

/// Whether it is worth looking for an adapter that is hardware. On Linux a GPU's driver shows in `/dev`; without one,
/// loading Vulkan would find programs at most, and take its time and say things about screens.
pub fn may_have_hardware() -> bool {
    const NODES: [&str; 5] = [
        "/dev/dri",
        "/dev/nvidiactl",
        "/dev/dxg",
        "/dev/mali0",
        "/dev/kgsl-3d0",
    ];
    !cfg!(target_os = "linux") || NODES.iter().any(|node| Path::new(node).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_suit_the_adapter() {
        assert_eq!(Variant::suited_to(true, true), Variant::Portable);
        assert_eq!(Variant::suited_to(false, true), Variant::Subgroup);
        assert_eq!(Variant::suited_to(false, false), Variant::Workgroup);
    }

    #[test]
    fn others_are_had_for_the_asking_where_they_run() {
        for variant in Variant::ALL {
            assert_eq!(Variant::chosen(Some(variant), false, true), Ok(variant));
            let runs = variant != Variant::Subgroup;
            assert_eq!(Variant::chosen(Some(variant), false, false).is_ok(), runs);
        }
        assert_eq!(Variant::chosen(None, true, false), Ok(Variant::Portable));
        assert_eq!(Variant::chosen(None, false, true), Ok(Variant::Subgroup));
    }
}
