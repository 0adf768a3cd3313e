//! Where training code runs, and what is said when a GPU fails there.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use mor_train::{ChosenDevice, DeviceChoice, open_device};

use super::device::Device;

impl From<Device> for DeviceChoice {
    fn from(device: Device) -> Self {
        match device {
            Device::Auto => Self::Auto,
            Device::Cpu => Self::Cpu,
            Device::Gpu => Self::Gpu,
        }
    }
}

/// Opens a device and runs `work` there. Where a GPU fails meanwhile, the error says why, and what `advice` adds to trying
/// the CPU.
pub(crate) fn with<T>(
    device: Device,
    advice: impl FnOnce() -> String,
    work: impl FnOnce(&ChosenDevice) -> Result<T>,
) -> Result<T> {
    let chosen = open_device(device.into())?;
    if !chosen.is_gpu {
        return work(&chosen);
    }
    guarded(|| work(&chosen), advice)
}

/// Nothing but trying the CPU.
pub(crate) fn no_advice() -> String {
    String::new()
}

/// Burn's backend for GPUs does not return what a driver reports (a device that was lost, or whose memory is full), it
/// panics.
fn guarded<T>(work: impl FnOnce() -> Result<T>, advice: impl FnOnce() -> String) -> Result<T> {
    let said = Arc::new(Mutex::new(None));
    let heard = Arc::clone(&said);
    // The first one is the cause; others follow from it.
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or("no reason given");
        let place = panic.location().map(|place| format!(" ({place})"));
        let text = format!("{text}{}", place.unwrap_or_default());
        let mut said = heard.lock().unwrap_or_else(PoisonError::into_inner);
        said.get_or_insert(text);
    }));
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(work));
    drop(std::panic::take_hook());
    outcome.unwrap_or_else(|_| {
        let said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = said.as_deref().unwrap_or("no reason given");
        let advice = advice();
        Err(anyhow!(
            "the GPU failed: {reason}; try --device cpu, or less at once{advice}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_panics_becomes_an_error_with_a_remedy() {
        let advice = || "; go on with --resume".to_owned();
        let failed = guarded(|| -> Result<()> { panic!("device lost") }, advice);
        let error = failed.expect_err("failed").to_string();
        for part in ["device lost", file!(), "--device cpu", "--resume"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(guarded(|| Ok(3), advice).expect("nothing happened"), 3);
        let other = guarded(|| -> Result<()> { Err(anyhow!("disk full")) }, advice);
        assert_eq!(other.expect_err("passed on").to_string(), "disk full");
    }
}
