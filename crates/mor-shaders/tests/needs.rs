//! What kernels say they need is what they need.

use mor_shaders::needs::SHARED_BYTES;
use mor_shaders::{Attention, Variant};
use naga::AddressSpace;

#[test]
fn attention_shares_what_it_says() {
    for head_dim in [1, 12, 20, 64, 100, 256, 300, 512, 4096] {
        let op = Attention {
            dim: 2 * head_dim,
            heads: 2,
            q_stride: 2 * head_dim,
            kv_stride: 2 * head_dim,
            out_stride: 2 * head_dim,
            indexed: false,
            masked: true,
            store_lse: false,
            half: false,
        };
        // The portable form shares nothing, and takes long to parse with large heads.
        for variant in [Variant::Workgroup, Variant::Subgroup] {
            let shader = op.shader(variant);
            let module = naga::front::wgsl::parse_str(&shader.source).expect("valid");
            let globals = module.global_variables.iter();
            let shared = globals.filter(|(_, global)| global.space == AddressSpace::WorkGroup);
            let bytes =
                shared.map(|(_, global)| module.types[global.ty].inner.size(module.to_ctx()));
            let said = op.shared_bytes(variant);
            assert_eq!(bytes.sum::<u32>(), said, "{}, {head_dim}", shader.label);
            assert!(head_dim > 256 || said <= SHARED_BYTES, "{head_dim}");
        }
    }
}
