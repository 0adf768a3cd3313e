//! A compiled shader.
#![allow(unsafe_code)]

use mor_shaders::Shader;

/// Name of the buffer of numbers that change from launch to launch; it is bound with an offset.
const PARAMS: &str = "params";

/// A compiled shader, and what its buffers are.
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
    /// Whether its last buffer is that of the launch's numbers.
    pub(crate) params: bool,
    pub(crate) label: String,
    shader: Shader,
}

impl Pipeline {
    pub(crate) fn new(device: &wgpu::Device, shader: &Shader) -> Self {
        let label = Some(shader.label.as_str());
        let descriptor = wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(shader.source.as_str().into()),
        };
        // A counter in every loop keeps drivers from unrolling any.
        let checks = wgpu::ShaderRuntimeChecks {
            force_loop_bounding: false,
            ..wgpu::ShaderRuntimeChecks::checked()
        };
        // SAFETY: the shaders are our own, and every loop of theirs counts up to a constant or to a number of rows,
        // positions or tokens, which are checked before they are handed over.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let entries: Vec<_> = shader
            .bindings
            .iter()
            .zip(0..)
            .map(|(binding, number)| wgpu::BindGroupLayoutEntry {
                binding: number,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage {
                        read_only: binding.read_only,
                    },
                    has_dynamic_offset: binding.name == PARAMS,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Shaders stay inside their buffers, and write what they read.
                zero_initialize_workgroup_memory: false,
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: None,
        });
        Self {
            pipeline,
            layout,
            params: shader.bindings.iter().any(|b| b.name == PARAMS),
            label: shader.label.clone(),
            shader: shader.clone(),
        }
    }

    /// Which of its buffers it only reads, in order.
    pub(crate) fn read_only(&self) -> impl Iterator<Item = bool> + '_ {
        self.shader.bindings.iter().map(|binding| binding.read_only)
    }

    /// Workgroups for a number of units.
    pub(crate) fn grid(&self, units: u32) -> [u32; 3] {
        self.shader.grid(units)
    }
}
