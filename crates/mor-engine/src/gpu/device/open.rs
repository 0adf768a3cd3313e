//! An open GPU, and noticing when it fails.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_channel::oneshot;
use mor_shaders::{Replacement, Shader, Variant};

use super::adapter::{AdapterDescription, describe, fastest};
use super::limits::check_limits;
use super::pipeline::Pipeline;
use super::wait::{Poll, caught, until_idle};
use crate::{EngineError, Result};

/// An open GPU.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    description: AdapterDescription,
    variant: Variant,
    /// Whether shaders may unpack f16, as weights stored so are: some drivers that play a GPU on the processor cannot.
    pub(crate) unpacks_f16: bool,
    pub(crate) limits: wgpu::Limits,
    faults: Arc<Mutex<Faults>>,
    /// Bytes that were written since the last submit.
    pub(crate) waiting: AtomicUsize,
    pub(crate) poll: Poll,
    pipelines: Mutex<HashMap<Shader, Arc<Pipeline>>>,
    replacement: OnceLock<Replacement>,
}

/// What the driver reported outside of any call.
#[derive(Debug, Default)]
struct Faults {
    lost: Option<String>,
    error: Option<String>,
    /// Stays: what was to be there is not, and nobody knows what.
    out_of_memory: bool,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu")
            .field("description", &self.description)
            .field("variant", &self.variant)
            .finish()
    }
}

impl Gpu {
    /// Opens the fastest GPU. Its kernels are as [`mor_shaders::VARIANT_VARIABLE`] says, or such as suit it.
    ///
    /// # Errors
    /// [`EngineError::NoAdapter`], [`EngineError::MissingFeature`], [`EngineError::GpuLimit`] or
    /// [`EngineError::Variant`].
    pub async fn open() -> Result<Arc<Self>> {
        Self::open_with(Variant::from_environment()?).await
    }

    /// As [`Self::open`], with a variant of the kernels.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub async fn open_with(variant: Option<Variant>) -> Result<Arc<Self>> {
        let adapter = fastest().await?;
        let description = describe(&adapter);
        let downlevel = adapter.get_downlevel_capabilities();
        let limits = adapter.limits();
        check_limits(&description, &limits)?;
        let subgroups = adapter.features() & wgpu::Features::SUBGROUP;
        let variant = suitable(variant, &description, !subgroups.is_empty())?;
        let request = wgpu::DeviceDescriptor {
            label: Some("mor"),
            required_features: subgroups,
            required_limits: limits.clone(),
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) =
            adapter
                .request_device(&request)
                .await
                .map_err(|error| EngineError::Gpu {
                    message: error.to_string(),
                })?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        let seen = Arc::clone(&faults);
        device.set_device_lost_callback(move |_, message| {
            let message = match message.is_empty() {
                true => "the driver gave no reason".to_owned(),
                false => message,
            };
            let mut seen = lock(&seen);
            // Some drivers have no other way to say so.
            seen.out_of_memory |= message.to_lowercase().contains("out of memory");
            seen.lost.get_or_insert(message);
        });
        let seen = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut seen = lock(&seen);
            seen.out_of_memory |= matches!(error, wgpu::Error::OutOfMemory { .. });
            seen.error.get_or_insert(error.to_string());
        }));
        Ok(Arc::new(Self {
            device,
            queue,
            description,
            variant,
            unpacks_f16: downlevel
                .flags
                .contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32),
            limits,
            faults,
            waiting: AtomicUsize::new(0),
            poll: until_idle,
            pipelines: Mutex::new(HashMap::new()),
            replacement: OnceLock::new(),
        }))
    }

    /// What it is.
    pub fn description(&self) -> &AdapterDescription {
        &self.description
    }

    /// The kernels it runs.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// Whether its shaders can read weights that are stored as f16.
    pub fn unpacks_f16(&self) -> bool {
        self.unpacks_f16
    }

    /// Drops what the driver has reported, where it follows from what is known already.
    pub(crate) fn forget_error(&self) {
        lock(&self.faults).error = None;
    }

    /// Waits until it has done all that it was given, compiling included.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`], [`EngineError::GpuOutOfMemory`] or [`EngineError::Gpu`].
    pub async fn settle(&self) -> Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.queue.submit([]);
        self.queue.on_submitted_work_done(move || {
            // Nobody waits any more if this fails.
            let _ = sender.send(());
        });
        self.wait()?;
        let settled = receiver.await;
        self.check()?;
        settled.map_err(|_| EngineError::DeviceLost {
            reason: "it never answered".to_owned(),
        })
    }

    /// Waits until it has done all that it was given and the callbacks of that have run. In browsers nothing can be waited
    /// for, and callbacks come by themselves.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`], [`EngineError::GpuOutOfMemory`] or [`EngineError::Gpu`] where waiting itself failed,
    /// when some callbacks may never come.
    pub(crate) fn wait(&self) -> Result<()> {
        match caught(|| (self.poll)(&self.device)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                self.check()?;
                Err(EngineError::Gpu {
                    message: error.to_string(),
                })
            }
            // What wgpu does when the driver loses the device or its memory meanwhile, after it has said so.
            Err(_) => {
                self.check()?;
                Err(EngineError::DeviceLost {
                    reason: "its driver failed while it worked".to_owned(),
                })
            }
        }
    }

    /// Whether it went away; what it held is gone, and another must be opened.
    pub fn is_lost(&self) -> bool {
        lock(&self.faults).lost.is_some()
    }

    /// Gives the device back with all that is on it. Whatever still uses it then fails with
    /// [`EngineError::DeviceLost`].
    pub fn close(&self) {
        self.device.destroy();
    }

    /// As [`Self::close`], for tests of what happens when a driver takes the device away.
    pub fn lose(&self) {
        self.close();
    }

    /// Compiles another text for the shaders of an operation from now on, for tests of what notices a broken kernel. The
    /// first call counts.
    pub fn replace(&self, replacement: Replacement) {
        self.replacement.get_or_init(|| replacement);
    }

    /// What the driver has reported since the last call, if anything.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = lock(&self.faults);
        if faults.out_of_memory {
            return Err(EngineError::GpuOutOfMemory {
                what: "the work at hand".to_owned(),
            });
        }
        if let Some(reason) = faults.lost.clone() {
            return Err(EngineError::DeviceLost { reason });
        }
        match faults.error.take() {
            Some(message) => Err(EngineError::Gpu { message }),
            None => Ok(()),
        }
    }

    /// How many shaders it has compiled.
    pub fn compiled(&self) -> usize {
        lock(&self.pipelines).len()
    }

    /// A shader, compiled once.
    pub(crate) fn pipeline(&self, shader: Shader) -> Arc<Pipeline> {
        let mut pipelines = lock(&self.pipelines);
        let make = |shader: &Shader| {
            let replaced = self.replacement.get().and_then(|with| with.apply(shader));
            let shader = replaced.as_ref().unwrap_or(shader);
            Arc::new(Pipeline::new(&self.device, shader))
        };
        let entry = pipelines.entry(shader);
        Arc::clone(match entry {
            std::collections::hash_map::Entry::Occupied(made) => made.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let made = make(place.key());
                place.insert(made)
            }
        })
    }
}

/// The variant asked for, or the one that suits the adapter.
fn suitable(
    asked: Option<Variant>,
    adapter: &AdapterDescription,
    subgroups: bool,
) -> Result<Variant> {
    Variant::chosen(asked, adapter.software, subgroups).map_err(|_| EngineError::MissingFeature {
        adapter: adapter.to_string(),
        feature: "subgroup operations",
        remedy: "set MOR_GPU_VARIANT to workgroup or portable, or not at all",
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is inside stays whole whatever panicked meanwhile.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_suit_the_adapter_unless_others_are_asked_for() {
        let adapter = |software| AdapterDescription {
            name: "Test 1".into(),
            driver: String::new(),
            backend: "Vulkan",
            software,
        };
        let chosen = |asked, software, subgroups| suitable(asked, &adapter(software), subgroups);
        assert_eq!(chosen(None, true, true).ok(), Some(Variant::Portable));
        assert_eq!(chosen(None, false, true).ok(), Some(Variant::Subgroup));
        assert_eq!(chosen(None, false, false).ok(), Some(Variant::Workgroup));
        let workgroup = Some(Variant::Workgroup);
        assert_eq!(chosen(workgroup, true, false).ok(), workgroup);
        let missing = chosen(Some(Variant::Subgroup), false, false).expect_err("has none");
        let missing = missing.to_string();
        assert!(missing.contains("Test 1 (Vulkan)") && missing.contains("MOR_GPU_VARIANT"));
    }
}
