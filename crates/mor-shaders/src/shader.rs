//! Putting a shader together: constants first, then what it includes, then the file.

use std::fmt::Write;

use crate::Variant;

/// A compute shader whose entry point is `main` and whose bindings are all in group 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The operation and its variant, for error messages and debuggers.
    pub label: String,
    /// WGSL.
    pub source: String,
    /// Invocations of a workgroup, as the source says.
    pub workgroup_size: u32,
    /// Whether it uses subgroup operations. Browsers want `enable subgroups;` before it, which naga does not know.
    pub subgroups: bool,
}

impl Shader {
    /// The source with every buffer writable, for runtimes that bind all of them so.
    pub fn source_read_write(&self) -> String {
        self.source
            .replace("var<storage, read>", "var<storage, read_write>")
    }
}

/// Collects the parts of a [`Shader`].
pub(crate) struct Builder {
    label: String,
    constants: String,
    includes: String,
    subgroups: bool,
    workgroup_size: u32,
}

impl Builder {
    /// A shader with `workgroup_size` invocations a workgroup, known to its source as `WORKGROUP`.
    pub(crate) fn new(name: &str, variant: Variant, workgroup_size: u32) -> Self {
        let mut builder = Self {
            label: format!("{name} {variant}"),
            constants: String::new(),
            includes: String::new(),
            subgroups: variant == Variant::Subgroup,
            workgroup_size,
        };
        // Sums over a workgroup.
        match variant {
            Variant::Portable => {}
            Variant::Workgroup => {
                builder = builder.include(include_str!(
                    "../../../shaders/include/reduce_workgroup.wgsl"
                ));
            }
            Variant::Subgroup => {
                builder = builder.include(include_str!(
                    "../../../shaders/include/reduce_subgroup.wgsl"
                ));
            }
        }
        builder.constant("WORKGROUP", workgroup_size)
    }

    /// A constant of type u32.
    pub(crate) fn constant(mut self, name: &str, value: u32) -> Self {
        // Writing to a string cannot fail.
        let _ = writeln!(self.constants, "const {name}: u32 = {value}u;");
        self
    }

    /// A constant of type bool.
    pub(crate) fn flag(mut self, name: &str, value: bool) -> Self {
        let _ = writeln!(self.constants, "const {name}: bool = {value};");
        self
    }

    /// A constant of type f32.
    pub(crate) fn float(mut self, name: &str, value: f32) -> Self {
        let _ = writeln!(self.constants, "const {name}: f32 = {value:?}f;");
        self
    }

    /// Functions that the file uses.
    pub(crate) fn include(mut self, source: &str) -> Self {
        self.includes.push_str(source);
        self
    }

    /// The finished shader, given the file with its entry point.
    pub(crate) fn build(self, file: &str) -> Shader {
        let Self {
            label,
            constants,
            includes,
            subgroups,
            workgroup_size,
        } = self;
        Shader {
            label,
            source: format!("{constants}{includes}{file}"),
            workgroup_size,
            subgroups,
        }
    }
}
