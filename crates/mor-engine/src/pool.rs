//! A few threads that work on the same kernel at the same time.
//!
//! Decoding one token of a small model takes about a millisecond and some seventy parallel
//! phases, so handing out a phase must take well under a microsecond: workers spin for a short
//! while after each phase, then park.
#![allow(unsafe_code)]

use crate::Result;

/// Splits `0..items` evenly; returns the share of `part` of `parts`.
pub(crate) fn share(items: usize, part: usize, parts: usize) -> std::ops::Range<usize> {
    items * part / parts..items * (part + 1) / parts
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::Pool;
#[cfg(target_arch = "wasm32")]
pub(crate) use single::Pool;

#[cfg(target_arch = "wasm32")]
mod single {
    /// The browser's worker is a single thread.
    pub(crate) struct Pool;

    impl Pool {
        pub(crate) fn new(_: usize) -> super::Result<Self> {
            Ok(Self)
        }

        pub(crate) fn threads(&self) -> usize {
            1
        }

        pub(crate) fn run(&mut self, job: impl Fn(usize) + Sync) {
            job(0);
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::cell::UnsafeCell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread::JoinHandle;

    /// Empty turns of the loop before a waiting thread lets others run.
    const SPINS: u32 = 2_000;
    /// How often a worker lets others run before it parks.
    const YIELDS: u32 = 50;

    /// A borrowed closure without its type and lifetime.
    #[derive(Clone, Copy)]
    struct Job {
        data: *const (),
        call: unsafe fn(*const (), usize),
    }

    /// One cache line, so that counters do not share one.
    #[repr(align(128))]
    struct Line<T>(T);

    struct Shared {
        /// Counts phases; odd bits are not used for anything else.
        epoch: Line<AtomicUsize>,
        /// Workers that have not finished the phase.
        running: Line<AtomicUsize>,
        job: UnsafeCell<Job>,
        stop: AtomicBool,
        asleep: Vec<AtomicBool>,
    }

    // SAFETY: `job` is written only by the pool's owner while no worker runs (`running` is 0), and
    // read by workers after they have seen the new epoch.
    unsafe impl Sync for Shared {}
    // SAFETY: the raw pointer in `job` is used only within `Pool::run`, which outlives its uses.
    unsafe impl Send for Shared {}

    /// The calling thread and its workers.
    pub(crate) struct Pool {
        shared: Arc<Shared>,
        workers: Vec<JoinHandle<()>>,
    }

    impl Pool {
        /// A pool of `threads` threads, the caller's included.
        pub(crate) fn new(threads: usize) -> super::Result<Self> {
            let workers = threads.saturating_sub(1);
            let shared = Arc::new(Shared {
                epoch: Line(AtomicUsize::new(0)),
                running: Line(AtomicUsize::new(0)),
                job: UnsafeCell::new(Job {
                    data: std::ptr::null(),
                    call: |_, _| {},
                }),
                stop: AtomicBool::new(false),
                asleep: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            });
            let mut pool = Self {
                shared,
                workers: Vec::with_capacity(workers),
            };
            for index in 0..workers {
                let shared = Arc::clone(&pool.shared);
                let worker = std::thread::Builder::new()
                    .name(format!("mor-engine-{}", index + 1))
                    .spawn(move || work(&shared, index))?;
                pool.workers.push(worker);
            }
            Ok(pool)
        }

        pub(crate) fn threads(&self) -> usize {
            self.workers.len() + 1
        }

        /// Calls `job(part)` once for each `part` in `0..threads()`, all at the same time, and returns
        /// when every call has.
        pub(crate) fn run<F: Fn(usize) + Sync>(&mut self, job: F) {
            if self.workers.is_empty() {
                return job(0);
            }
            unsafe fn call<F: Fn(usize)>(data: *const (), part: usize) {
                // SAFETY: `data` is the `&F` below, alive until `Finish` has waited.
                unsafe { (*data.cast::<F>())(part) }
            }
            let erased = Job {
                data: (&raw const job).cast(),
                call: call::<F>,
            };
            // SAFETY: `&mut self` and the wait of the previous run: no worker looks at the job now.
            unsafe { *self.shared.job.get() = erased };
            self.shared
                .running
                .0
                .store(self.workers.len(), Ordering::Relaxed);
            // Sequentially consistent, like a worker's flag and its second look at the epoch: either
            // it sees the new phase or this thread sees it asleep.
            self.shared.epoch.0.fetch_add(1, Ordering::SeqCst);
            // Waits even if the job panics on this thread: workers still use its borrows.
            let _finish = Finish(&self.shared);
            for (worker, asleep) in self.workers.iter().zip(&self.shared.asleep) {
                if asleep.load(Ordering::SeqCst) {
                    worker.thread().unpark();
                }
            }
            job(0);
        }
    }

    impl Drop for Pool {
        fn drop(&mut self) {
            self.shared.stop.store(true, Ordering::SeqCst);
            self.shared.epoch.0.fetch_add(1, Ordering::SeqCst);
            for worker in self.workers.drain(..) {
                worker.thread().unpark();
                let _ = worker.join();
            }
        }
    }

    /// Waits for the workers when dropped.
    struct Finish<'a>(&'a Shared);

    impl Drop for Finish<'_> {
        fn drop(&mut self) {
            let mut turns = 0_u32;
            while self.0.running.0.load(Ordering::Acquire) > 0 {
                turns = turns.wrapping_add(1);
                if turns.is_multiple_of(SPINS) {
                    // A worker may wait for this very processor.
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
        }
    }

    /// Marks a worker's part as done, also when the job panics.
    struct Done<'a>(&'a Shared);

    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.running.0.fetch_sub(1, Ordering::Release);
        }
    }

    fn work(shared: &Shared, index: usize) {
        let mut seen = 0;
        loop {
            seen = wait(shared, index, seen);
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
            let _done = Done(shared);
            // SAFETY: the new epoch was published after the job, and the job stays until `_done`.
            let job = unsafe { *shared.job.get() };
            // SAFETY: as above; the closure is `Sync`.
            unsafe { (job.call)(job.data, index + 1) };
        }
    }

    /// Returns the next epoch after `seen`.
    fn wait(shared: &Shared, index: usize, seen: usize) -> usize {
        let epoch = || shared.epoch.0.load(Ordering::SeqCst);
        for _ in 0..YIELDS {
            for _ in 0..SPINS {
                let now = epoch();
                if now != seen {
                    return now;
                }
                std::hint::spin_loop();
            }
            std::thread::yield_now();
        }
        shared.asleep[index].store(true, Ordering::SeqCst);
        let now = loop {
            let now = epoch();
            if now != seen {
                break now;
            }
            std::thread::park();
        };
        shared.asleep[index].store(false, Ordering::SeqCst);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_part_runs_once_per_phase() {
        for threads in [1, 2, 3] {
            let mut pool = Pool::new(threads).expect("threads");
            let calls: Vec<_> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for phase in 0..500 {
                pool.run(|part| {
                    calls[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(calls.iter().all(|n| n.load(Ordering::Relaxed) == phase + 1));
                if phase % 100 == 0 {
                    // Long enough for the workers to park.
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        }
    }

    #[test]
    fn shares_cover_everything() {
        let shares: Vec<_> = (0..3).map(|part| share(10, part, 3)).collect();
        assert_eq!(shares, [0..3, 3..6, 6..10]);
    }
}
