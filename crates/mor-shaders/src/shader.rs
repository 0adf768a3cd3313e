//! Putting a shader together: constants first, then what it includes, then the file.
//!
//! Files are WGSL with two additions. Lines between `#if NAME` (or `#if !NAME`), `#else` and `#endif` are there only
//! where the flag `NAME` is set (or not); those between `#repeat NAME` and `#end` are there as often as the constant
//! `NAME` says, with the round's number for `$i`; `@binding(next)` counts up from 0, so that bindings that are not there
//! leave no gap.
//!
//! Repeated lines are loops that are certain to be unrolled: see [`MOST_ROUNDS`].

use std::fmt::Write;

use crate::Variant;

/// A compute shader whose entry point is `main` and whose bindings are all in group 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The operation and its variant, for error messages and debuggers.
    pub label: String,
    /// WGSL.
    pub source: String,
    /// Its buffers, by binding.
    pub bindings: Vec<Binding>,
    /// Invocations of a workgroup, as the source says.
    pub workgroup_size: u32,
    /// Units of work, as the shader's file calls them, that a workgroup does.
    pub units_per_workgroup: u32,
    /// Whether it uses subgroup operations, which an adapter must have.
    pub subgroups: bool,
}

/// A buffer of a shader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Its name in the source.
    pub name: String,
    /// Whether the shader only reads it.
    pub read_only: bool,
}

/// Workgroups along x before a grid of units goes on along y; known to sources as `GRID_X`. WebGPU promises 65,535.
const GRID_X: u32 = 32_768;

/// Rounds after which some drivers that play a GPU on the processor (lavapipe) end an invocation's loops, counted over
/// all of them, without a word.
pub const MOST_ROUNDS: u32 = 65_535;

impl Shader {
    /// Workgroups for a number of units.
    pub fn grid(&self, units: u32) -> [u32; 3] {
        grid(units.div_ceil(self.units_per_workgroup))
    }

    /// The source with every buffer writable, for runtimes that bind all of them so.
    pub fn source_read_write(&self) -> String {
        self.source.replace(READ_ONLY, "var<storage, read_write>")
    }
}

/// A grid of at least this many workgroups, counted along x first.
pub(crate) fn grid(groups: u32) -> [u32; 3] {
    [groups.min(GRID_X), groups.div_ceil(GRID_X), 1]
}

const READ_ONLY: &str = "var<storage, read>";

/// Collects the parts of a [`Shader`].
pub(crate) struct Builder {
    label: String,
    constants: String,
    includes: String,
    flags: Vec<&'static str>,
    subgroups: bool,
    workgroup_size: u32,
}

impl Builder {
    /// A shader with `workgroup_size` invocations a workgroup, known to its source as `WORKGROUP`.
    pub(crate) fn new(name: &str, variant: Variant, workgroup_size: u32) -> Self {
        let builder = Self {
            label: format!("{name} {variant}"),
            constants: String::new(),
            includes: String::new(),
            flags: Vec::new(),
            subgroups: variant == Variant::Subgroup,
            workgroup_size,
        };
        let builder = builder
            .constant("WORKGROUP", workgroup_size)
            .constant("GRID_X", GRID_X)
            .flag("PORTABLE", variant == Variant::Portable);
        let lanes = include_str!("../../../shaders/include/lanes_workgroup.wgsl");
        match variant {
            Variant::Portable => {
                builder.include(include_str!("../../../shaders/include/lanes_portable.wgsl"))
            }
            Variant::Workgroup => builder.include(lanes).include(include_str!(
                "../../../shaders/include/reduce_workgroup.wgsl"
            )),
            Variant::Subgroup => builder.include(lanes).include(include_str!(
                "../../../shaders/include/reduce_subgroup.wgsl"
            )),
        }
    }

    /// A constant of type u32.
    pub(crate) fn constant(mut self, name: &str, value: u32) -> Self {
        // Writing to a string cannot fail.
        let _ = writeln!(self.constants, "const {name}: u32 = {value}u;");
        self
    }

    /// A constant array of type u32, never empty.
    pub(crate) fn array(mut self, name: &str, values: &[u32]) -> Self {
        let list: Vec<String> = values.iter().map(|value| format!("{value}u")).collect();
        let (len, list) = (values.len(), list.join(", "));
        let _ = writeln!(
            self.constants,
            "const {name}: array<u32, {len}> = array<u32, {len}>({list});"
        );
        self
    }

    /// A constant of type f32.
    pub(crate) fn float(mut self, name: &str, value: f32) -> Self {
        let _ = writeln!(self.constants, "const {name}: f32 = {value:?}f;");
        self
    }

    /// Sets a flag that `#if` asks for.
    pub(crate) fn flag(mut self, name: &'static str, set: bool) -> Self {
        if set {
            self.flags.push(name);
        }
        self
    }

    /// Functions that the file uses.
    pub(crate) fn include(mut self, source: &str) -> Self {
        self.includes.push_str(source);
        self
    }

    /// The finished shader, given the file with its entry point.
    pub(crate) fn build(self, file: &str) -> Shader {
        let mut source = self.constants;
        let mut next = 0;
        // Whether the lines of each open `#if` are kept.
        let mut kept = Vec::new();
        for line in self.includes.lines().chain(file.lines()) {
            let word = line.trim();
            if let Some(condition) = word.strip_prefix("#if ") {
                let (name, wanted) = match condition.strip_prefix('!') {
                    Some(name) => (name, false),
                    None => (condition, true),
                };
                kept.push(self.flags.contains(&name) == wanted);
            } else if word == "#else"
                && let Some(kept) = kept.last_mut()
            {
                *kept = !*kept;
            } else if word == "#endif" && !kept.is_empty() {
                kept.pop();
            } else if kept.iter().all(|kept| *kept) {
                let number = next.to_string();
                if line.contains("@binding(next)") {
                    next += 1;
                }
                let _ = writeln!(
                    source,
                    "{}",
                    line.replace("@binding(next)", &format!("@binding({number})"))
                );
            }
        }
        if !kept.is_empty() {
            // No compiler takes this.
            source.push_str("#endif is missing\n");
        }
        let source = repeated(&source);
        let bindings = bindings(&source);
        Shader {
            label: self.label,
            source,
            bindings,
            workgroup_size: self.workgroup_size,
            units_per_workgroup: match self.flags.contains(&"PORTABLE") {
                true => self.workgroup_size,
                false => 1,
            },
            subgroups: self.subgroups,
        }
    }
}

/// The value of a constant of type u32, or the number that `text` is.
fn value_of(source: &str, text: &str) -> Option<u32> {
    let constant = format!("const {text}: u32 = ");
    let value = source.lines().find_map(|line| line.strip_prefix(&constant));
    let value = value.map_or(text, |value| value.trim_end_matches("u;"));
    value.parse().ok()
}

/// A source with its repeated lines written out. A directive without an end, or with a name that is no constant, stays
/// for the compiler to refuse.
fn repeated(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.trim().strip_prefix("#repeat ") else {
            let _ = writeln!(out, "{line}");
            continue;
        };
        let mut body = Vec::new();
        let closed = loop {
            match lines.next() {
                Some(line) if line.trim() == "#end" => break true,
                Some(line) => body.push(line),
                None => break false,
            }
        };
        let Some(rounds) = value_of(source, name).filter(|_| closed) else {
            let _ = writeln!(out, "{line}");
            continue;
        };
        for round in 0..rounds {
            for line in &body {
                let _ = writeln!(out, "{}", line.replace("$i", &format!("{round}u")));
            }
        }
    }
    out
}

/// The buffers that a source declares, in the order of their numbers, which may be constants by name.
fn bindings(source: &str) -> Vec<Binding> {
    let number = |text: &str| value_of(source, text).unwrap_or(u32::MAX);
    let declared = source.lines().filter_map(|line| {
        let (at, declaration) = line.split_once("@binding(")?.1.split_once(") ")?;
        let (kind, rest) = declaration.split_once("> ")?;
        let binding = Binding {
            name: rest.split(':').next().unwrap_or(rest).to_owned(),
            read_only: READ_ONLY.starts_with(kind),
        };
        Some((number(at), binding))
    });
    let mut declared: Vec<_> = declared.collect();
    declared.sort_by_key(|(number, _)| *number);
    declared.into_iter().map(|(_, binding)| binding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_that_do_not_fit_stay_for_the_compiler_to_refuse() {
        let built = |file| {
            Builder::new("test", Variant::Portable, 2)
                .build(file)
                .source
        };
        for (file, left) in [
            ("#if B\nx", "#endif is missing"),
            ("x\n#else\ny", "#else"),
            ("x\n#endif\ny", "#endif"),
            ("#repeat NOTHING\nx\n#end", "#repeat NOTHING"),
            ("#repeat WORKGROUP\nx", "#repeat WORKGROUP"),
        ] {
            let source = built(file);
            assert!(source.lines().any(|line| line == left), "{source}");
        }
    }

    #[test]
    fn flags_choose_lines_and_bindings_count_up() {
        let file = "@group(0) @binding(next) var<storage, read> a: array<f32>; // [n]\n\
            #if B\n@group(0) @binding(next) var<storage, read> b: array<f32>;\n#else\nwithout\n#endif\n\
            #if !B\nnever\n#if C\nneither\n#endif\n#endif\n\
            @group(0) @binding(next) var<storage, read_write> c: array<f32>;\n\
            #repeat WORKGROUP\nx[$i] = $i;\n#end\nafter";
        let shader = Builder::new("test", Variant::Portable, 8)
            .flag("B", true)
            .flag("C", false)
            .build(file);
        let named: Vec<_> = shader
            .bindings
            .iter()
            .map(|b| (b.name.as_str(), b.read_only))
            .collect();
        assert_eq!(named, [("a", true), ("b", true), ("c", false)]);
        assert!(
            shader
                .source
                .contains("@binding(2) var<storage, read_write> c")
        );
        let gone = ["without\n", "never", "neither", "#if"];
        assert!(gone.iter().all(|text| !shader.source.contains(text)));
        assert!(shader.source.contains("x[0u] = 0u;\nx[1u] = 1u;\n"));
        assert!(shader.source.ends_with("x[7u] = 7u;\nafter\n"));
        assert!(!shader.source_read_write().contains("read>"));
    }
}
