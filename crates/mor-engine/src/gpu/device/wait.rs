//! Waiting for the device.

/// How a device is waited for; tests put a failing one in its place.
pub(crate) type Poll = fn(&wgpu::Device) -> std::result::Result<wgpu::PollStatus, wgpu::PollError>;

/// Until it has done all that it was given.
pub(crate) fn until_idle(
    device: &wgpu::Device,
) -> std::result::Result<wgpu::PollStatus, wgpu::PollError> {
    device.poll(wgpu::PollType::wait_indefinitely())
}

/// What `run` gives, or what it panicked with, of which nothing is printed.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> std::thread::Result<T> {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
    use std::sync::Once;

    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    // The hook is the whole process's: it is set once, and all other panics go on to the one before it.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic);
            }
        }));
    });
    QUIET.set(true);
    // What is inside a device after a panic does not matter: it is lost.
    let result = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    result
}

/// Nothing waits in browsers, and so nothing panics.
#[cfg(target_arch = "wasm32")]
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> std::thread::Result<T> {
    Ok(run())
}
