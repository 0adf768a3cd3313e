//! Every shader, in every variant and for the shapes in use, is valid WGSL.

use mor_shaders::{LayerNorm, Shader, Variant};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Parses and validates, as the runtime would, with nothing beyond what WebGPU promises but subgroups.
fn check(shader: &Shader) {
    for source in [&shader.source, &shader.source_read_write()] {
        let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|error| {
            panic!("{}: {}", shader.label, error.emit_to_string(source));
        });
        let capabilities = match shader.subgroups {
            true => Capabilities::SUBGROUP,
            false => Capabilities::default(),
        };
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
    }
}

#[test]
fn layer_norm() {
    for variant in Variant::ALL {
        for (dim, stride) in [(48, 64), (384, 384), (768, 768)] {
            let op = LayerNorm {
                dim,
                stride,
                eps: 1e-5,
            };
            check(&op.shader(variant));
        }
    }
}
