//! Contexts on every device, for tests of what holds on all of them.

use std::sync::Arc;

use mor_config::{ModelConfig, Weights};
use mor_engine::{Context, DecodeOptions, Decoder, LoadOptions, Model};

const CPU: &str = "the CPU";

/// A model on a device.
pub(crate) struct Placed {
    pub(crate) device: String,
    make: Box<dyn Fn(DecodeOptions) -> Context>,
}

impl Placed {
    /// An empty context.
    pub(crate) fn context(&self, options: DecodeOptions) -> Context {
        (self.make)(options)
    }

    /// Whether it is not the CPU.
    pub(crate) fn is_gpu(&self) -> bool {
        self.device != CPU
    }

    pub(crate) fn on_cpu(model: Model) -> Self {
        let model = Arc::new(model);
        Self {
            device: CPU.to_owned(),
            make: Box::new(move |options| {
                let decoder = Decoder::new(Arc::clone(&model), options);
                decoder.expect("a decoder").into()
            }),
        }
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn on_gpu(model: mor_engine::gpu::GpuModel) -> Self {
        let model = Arc::new(model);
        Self {
            device: model.gpu().description().to_string(),
            make: Box::new(move |options| {
                let decoder = mor_engine::gpu::GpuDecoder::new(Arc::clone(&model), options);
                pollster::block_on(decoder).expect("a decoder").into()
            }),
        }
    }
}

/// The GPU that tests share which do not lose it, so that kernels compile once.
#[cfg(feature = "gpu")]
pub(crate) fn shared_gpu() -> Arc<mor_engine::gpu::Gpu> {
    static SHARED: std::sync::OnceLock<Arc<mor_engine::gpu::Gpu>> = std::sync::OnceLock::new();
    let open = || pollster::block_on(mor_engine::gpu::Gpu::open()).expect("a Vulkan driver");
    Arc::clone(SHARED.get_or_init(open))
}

/// A model on the CPU and, where tests have one, on the GPU.
pub(crate) fn on_every_device(config: &ModelConfig, weights: &Weights) -> Vec<Placed> {
    let model = Model::from_parts_with(config.clone(), weights, LoadOptions::default());
    vec![
        Placed::on_cpu(model.expect("a model")),
        #[cfg(feature = "gpu")]
        Placed::on_gpu(
            pollster::block_on(mor_engine::gpu::GpuModel::from_parts(
                shared_gpu(),
                config.clone(),
                weights,
                mor_engine::WeightPrecision::AsStored,
            ))
            .expect("fits the GPU"),
        ),
    ]
}
