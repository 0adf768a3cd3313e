//! Checks that every test of a shader makes.

use mor_shaders::Shader;
use naga::AddressSpace;
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Shared memory that every adapter has.
const SHARED_MEMORY: u32 = 16 << 10;

/// Parses and validates, as the runtime would, with nothing beyond what WebGPU promises but subgroups
/// and f16.
pub(crate) fn check(shader: &Shader) {
    for source in [&shader.source, &shader.source_read_write()] {
        let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|error| {
            panic!("{}: {}", shader.label, error.emit_to_string(source));
        });
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
            panic!("{}: {}", shader.label, error.emit_to_string(source));
        }
        let entry = &module.entry_points[0];
        assert_eq!(entry.name, "main", "{}", shader.label);
        assert_eq!(
            entry.workgroup_size,
            [shader.workgroup_size, 1, 1],
            "{}",
            shader.label
        );
        let buffers = module.global_variables.iter();
        let buffers = buffers.filter(|(_, global)| global.binding.is_some());
        assert_eq!(buffers.count(), shader.bindings.len(), "{}", shader.label);
        let globals = module.global_variables.iter();
        let shared = globals.filter(|(_, global)| global.space == AddressSpace::WorkGroup);
        let bytes = shared.map(|(_, global)| module.types[global.ty].inner.size(module.to_ctx()));
        let bytes: u32 = bytes.sum();
        assert!(bytes <= SHARED_MEMORY, "{}: {bytes} bytes", shader.label);
    }
}
