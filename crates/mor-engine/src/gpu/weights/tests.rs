//! What is refused, and how weights are stored.

use std::sync::Arc;

use mor_shaders::Storage;
use pollster::block_on;

use super::upload::GpuSource;
use crate::gpu::device::Gpu;
use crate::model::{Source, Stored, Tensor};
use crate::{EngineError, WeightPrecision};

#[test]
fn what_no_buffer_holds_is_refused_before_it_is_packed() {
    let gpu = block_on(Gpu::open()).expect("a Vulkan driver");
    let source = GpuSource {
        gpu: &gpu,
        tensor: &|_| Ok(Tensor::zeros(Stored::F32, 1 << 44)),
        precision: WeightPrecision::F32,
        blank: None,
    };
    let error = source.matrix(&["weight"], 1 << 10).map(drop);
    let error = error.expect_err("too large");
    assert!(
        matches!(error, EngineError::GpuLimit { needed, .. } if needed == 1 << 46),
        "{error:?}"
    );
}

/// Where shaders cannot unpack f16, weights stored so are widened, and nobody else's wish is overruled.
#[test]
fn half_precision_is_kept_where_it_can_be_unpacked() {
    let mut gpu = block_on(Gpu::open()).expect("a Vulkan driver");
    let stored = |gpu: &Arc<Gpu>, precision| {
        let source = GpuSource {
            gpu,
            tensor: &|_| Ok(Tensor::zeros(Stored::F16, 64)),
            precision,
            blank: None,
        };
        let uploaded = source.matrix(&["weight"], 64);
        uploaded.map(|uploaded| uploaded.matrix.storage)
    };
    let (as_stored, f16) = (WeightPrecision::AsStored, WeightPrecision::F16);
    assert_eq!(stored(&gpu, as_stored).ok(), Some(Storage::F16));
    Arc::get_mut(&mut gpu).expect("nobody else's").unpacks_f16 = false;
    assert_eq!(stored(&gpu, as_stored).ok(), Some(Storage::F32));
    let error = stored(&gpu, f16).expect_err("it cannot").to_string();
    assert!(
        error.contains("f16") && error.contains("--dtype"),
        "{error}"
    );
}

/// Sizes of matrices do not overflow, whatever a file says.
#[test]
fn sizes_saturate() {
    let most = usize::MAX;
    for storage in [Storage::F32, Storage::F16, Storage::Q8] {
        assert_eq!(storage.bytes(most, most), u64::MAX, "{storage:?}");
    }
}
