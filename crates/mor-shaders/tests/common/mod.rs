//! Checks that every test of a shader makes.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use mor_shaders::Shader;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess};

/// What WebGPU promises of every adapter: bytes of shared memory, invocations of a workgroup, and storage buffers of a
/// kernel.
const SHARED_MEMORY: u32 = 16 << 10;
const INVOCATIONS: u32 = 256;
pub(crate) const BUFFERS: usize = 8;

/// Parses and validates, as the runtime would, with nothing beyond what WebGPU promises but subgroups and f16, and with
/// at most so many buffers. Once, where several variants or options give the same source.
pub(crate) fn check(shader: &Shader, buffers: usize) {
    static CHECKED: LazyLock<Mutex<HashSet<(Shader, usize)>>> = LazyLock::new(Mutex::default);
    let mut checked = CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    let label = String::new();
    if !checked.insert((
        Shader {
            label,
            ..shader.clone()
        },
        buffers,
    )) {
        return;
    }
    drop(checked);
    let label = &shader.label;
    let module = parse(shader, &shader.source);
    parse(shader, &shader.source_read_write());
    let entry = &module.entry_points[0];
    assert_eq!(entry.name, "main", "{label}");
    assert_eq!(
        entry.workgroup_size,
        [shader.workgroup_size, 1, 1],
        "{label}"
    );
    assert!(shader.workgroup_size <= INVOCATIONS, "{label}");
    let globals = || module.global_variables.iter().map(|(_, global)| global);
    let mut bound = 0;
    for (global, at) in globals().filter_map(|global| Some((global, global.binding?))) {
        let binding = &shader.bindings[at.binding as usize];
        assert_eq!(at.group, 0, "{label}");
        assert_eq!(global.name.as_deref(), Some(&*binding.name), "{label}");
        let AddressSpace::Storage { access } = global.space else {
            panic!("{label}: {} is no storage buffer", binding.name);
        };
        let read_only = !access.contains(StorageAccess::STORE);
        assert_eq!(read_only, binding.read_only, "{label}: {}", binding.name);
        bound += 1;
    }
    assert_eq!(bound, shader.bindings.len(), "{label}");
    assert!(bound <= buffers, "{label}: {bound} buffers");
    let shared = globals().filter(|global| global.space == AddressSpace::WorkGroup);
    let bytes = shared.map(|global| module.types[global.ty].inner.size(module.to_ctx()));
    let bytes: u32 = bytes.sum();
    assert!(bytes <= SHARED_MEMORY, "{label}: {bytes} bytes");
}

fn parse(shader: &Shader, source: &str) -> Module {
    let label = &shader.label;
    let module = naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(source)));
    // What unpacks pairs of f16.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SUBGROUP, shader.subgroups);
    capabilities.set(
        Capabilities::SHADER_FLOAT16,
        source.starts_with("enable f16;"),
    );
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all());
    if let Err(error) = validator.validate(&module) {
        panic!("{label}: {}", error.emit_to_string(source));
    }
    module
}
