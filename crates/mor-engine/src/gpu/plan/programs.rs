//! All kernels of a decoder, which can be compiled before the weights are there.

use std::path::Path;
use std::sync::Arc;

use mor_config::{CONFIG_FILE, ModelConfig, WeightsHeader};

use super::block::BlockPipelines;
use super::maker::Maker;
use super::mode::Mode;
use super::pipelines::{Pipelines, RouterPipelines, SizedPipeline, StepPipelines};
use crate::gpu::device::{Gpu, Pipeline};
use crate::gpu::weights::GpuModel;
use crate::model::NormOrder;
use crate::{DecodeOptions, EngineError, Result};

/// The kernels of one layer.
pub(crate) struct LayerPipelines {
    /// Of a step whose input is as it is, and of one that is owed a norm.
    pub(crate) plain: StepPipelines,
    pub(crate) owed: StepPipelines,
    /// Of a step of many rows: of those that were selected where `arguments` sizes it.
    pub(crate) block: BlockPipelines,
    pub(crate) arguments: Option<Arc<Pipeline>>,
}

/// All kernels of a decoder.
pub(crate) struct Programs {
    pub(crate) layers: Vec<LayerPipelines>,
    pub(crate) pipelines: Pipelines,
    pub(crate) router: Option<RouterPipelines>,
    pub(crate) finish: SizedPipeline,
}

impl Programs {
    pub(crate) fn compile(model: &GpuModel, mode: Mode) -> Self {
        let maker = Maker { model, mode };
        let post = model.norm_order == NormOrder::Post;
        let layers: Vec<_> = model
            .layers
            .iter()
            .map(|layer| {
                let selected = mode == Mode::OnDevice && layer.recurs;
                let block = maker.block(layer, selected);
                LayerPipelines {
                    plain: maker.step(layer, false),
                    owed: maker.step(layer, post),
                    arguments: selected.then(|| maker.arguments(&block)),
                    block,
                }
            })
            .collect();
        let grids = layers
            .last()
            .map_or_else(Vec::new, |pipelines| pipelines.plain.grids());
        let router = match mode {
            Mode::Fixed(_) => None,
            Mode::OnDevice | Mode::Live => maker.router(grids),
        };
        Self {
            layers,
            pipelines: maker.pipelines(mode == Mode::OnDevice),
            router,
            finish: maker.finish(
                post && mode != Mode::Fixed(0),
                !matches!(mode, Mode::Fixed(_)),
            ),
        }
    }
}

impl GpuModel {
    /// Has a GPU compile what decoders of such a model need, so that it is done when the weights are there. `start` is the
    /// beginning of `model.safetensors`, whose header tells how matrices are stored; false until that is whole. Waits for
    /// nothing: what goes wrong on the GPU, and a header that does not fit, shows when the model is put there.
    ///
    /// # Errors
    /// [`crate::EngineError::Config`] when the configuration does not fit itself or the options.
    pub fn compile_ahead(
        gpu: &Arc<Gpu>,
        config: &ModelConfig,
        start: &[u8],
        options: DecodeOptions,
    ) -> Result<bool> {
        config.validate(Path::new(CONFIG_FILE))?;
        let mode = Mode::of(config, options)?;
        let Some(header) = WeightsHeader::read(start) else {
            return Ok(false);
        };
        // Shapes that no file has could take a compiler hours.
        if header.fits(config) {
            match Self::outline(Arc::clone(gpu), config.clone(), &header) {
                // The device keeps what it compiled.
                Ok(outline) => drop(Programs::compile(&outline, mode)),
                Err(EngineError::GpuLimit { .. } | EngineError::OnCpuOnly { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
