//! Which instruction set the kernels run on: chosen once at run time, the best the CPU has.

use std::cell::Cell;
use std::sync::OnceLock;

use mor_math::Isa;

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// The instruction set in use: the best available one, unless the environment variable `MOR_CPU_ISA` names a lesser one by
/// its [`Isa::name`].
pub fn current_isa() -> Isa {
    static DETECTED: OnceLock<Isa> = OnceLock::new();
    FORCED.get().unwrap_or_else(|| {
        *DETECTED.get_or_init(|| {
            let named = std::env::var("MOR_CPU_ISA").ok();
            let named = named.and_then(|name| Isa::named(&name));
            let named = named.filter(|isa| isa.is_available());
            named.unwrap_or_else(Isa::best)
        })
    })
}

/// Runs `work` with the kernels called from this thread forced onto `isa`, for tests and benchmarks. Does nothing special
/// where it is not available.
pub fn with_isa<T>(isa: Isa, work: impl FnOnce() -> T) -> T {
    let before = FORCED.replace(isa.is_available().then_some(isa));
    let result = work();
    FORCED.set(before);
    result
}
