//! A few threads that work on the same kernel at the same time.
//!
//! Decoding one token of a small model takes about a millisecond and some fifty parallel
//! phases, so handing out a phase must take well under a microsecond: workers spin for a short
//! while after each phase, then park.
//!
//! The parts of a phase are claimed one by one. A worker that the system has put aside claims none, and the
//! others do not wait for it: on a busy machine two threads are then hardly slower than one.
//!
//! A part that panics, on whichever thread, panics on the caller's once no thread works on the phase any more.
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

        pub(crate) fn run(&mut self, parts: usize, job: impl Fn(usize, usize) + Sync) {
            (0..parts).for_each(|part| job(part, 0));
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::any::Any;
    use std::cell::UnsafeCell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread::JoinHandle;

    /// Empty turns of the loop before a waiting thread lets others run.
    const SPINS: u32 = 2_000;
    /// How often a worker lets others run before it parks.
    const YIELDS: u32 = 12;

    /// A borrowed closure without its type and lifetime.
    #[derive(Clone, Copy)]
    struct Job {
        data: *const (),
        call: unsafe fn(*const (), usize, usize),
    }

    /// A cache line pair of its own, so that counters do not slow each other down.
    #[repr(align(128))]
    struct Line<T>(T);

    type Panic = Box<dyn Any + Send>;

    struct State {
        /// The phase's number above, how many of its parts are unclaimed in the lower 32 bits. In one
        /// word, so that a part can only be claimed from the phase it belongs to.
        unclaimed: Line<AtomicU64>,
        /// Parts of the phase that are not done.
        undone: Line<AtomicUsize>,
        job: UnsafeCell<Job>,
        /// What the first part of the phase that panicked said.
        panic: Mutex<Option<Panic>>,
        stop: AtomicBool,
        asleep: Vec<AtomicBool>,
    }

    // SAFETY: `job` is written only while no part is undone, and read only by the holder of a claimed
    // part, which is undone until the holder has finished.
    unsafe impl Sync for State {}
    // SAFETY: the raw pointer in `job` is used only within `Pool::run`, which outlives its uses.
    unsafe impl Send for State {}

    impl State {
        /// Claims and runs parts until none is left. Never panics.
        fn work(&self, thread: usize) {
            while let Some(part) = self.claim() {
                // SAFETY: this thread holds a part of the phase that the job belongs to, so nobody writes it.
                let job = unsafe { *self.job.get() };
                // SAFETY: as above, and so `Pool::run` waits: the closure that `data` points to is alive, and `call` is the
                // one made for its type.
                let call = || unsafe { (job.call)(job.data, part, thread) };
                // Whoever may see what is left half done hears of the panic, from `Pool::run`.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
                    self.give_up(panic);
                }
                self.undone.0.fetch_sub(1, Ordering::Release);
            }
        }

        /// Keeps the first panic of a phase for the caller, and leaves no part unclaimed: nobody needs them now.
        fn give_up(&self, panic: Panic) {
            let mut kept = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            match &*kept {
                None => *kept = Some(panic),
                // Dropping it could panic again.
                Some(_) => std::mem::forget(panic),
            }
            while self.claim().is_some() {
                self.undone.0.fetch_sub(1, Ordering::Release);
            }
        }

        /// Returns when every part is done.
        fn wait_for_all(&self) {
            let mut turns = 0_u32;
            while self.undone.0.load(Ordering::Acquire) > 0 {
                turns = turns.wrapping_add(1);
                if turns.is_multiple_of(SPINS) {
                    // A worker may wait for this very processor.
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
        }

        fn claim(&self) -> Option<usize> {
            let word = &self.unclaimed.0;
            let mut seen = word.load(Ordering::SeqCst);
            loop {
                let left = seen as u32 as usize;
                let part = left.checked_sub(1)?;
                let claimed =
                    word.compare_exchange_weak(seen, seen - 1, Ordering::SeqCst, Ordering::SeqCst);
                match claimed {
                    Ok(_) => return Some(part),
                    Err(now) => seen = now,
                }
            }
        }

        fn has_work(&self) -> bool {
            self.unclaimed.0.load(Ordering::SeqCst) as u32 > 0 || self.stop.load(Ordering::SeqCst)
        }
    }

    /// The calling thread and its workers.
    pub(crate) struct Pool {
        shared: Arc<State>,
        workers: Vec<JoinHandle<()>>,
    }

    impl Pool {
        /// A pool of `threads` threads, the caller's included.
        pub(crate) fn new(threads: usize) -> super::Result<Self> {
            let workers = threads.saturating_sub(1);
            let shared = Arc::new(State {
                unclaimed: Line(AtomicU64::new(0)),
                undone: Line(AtomicUsize::new(workers)),
                job: UnsafeCell::new(Job {
                    data: std::ptr::null(),
                    call: |_, _, _| {},
                }),
                panic: Mutex::new(None),
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
                    .spawn(move || {
                        shared.undone.0.fetch_sub(1, Ordering::Release);
                        while !shared.stop.load(Ordering::SeqCst) {
                            wait(&shared, index);
                            shared.work(index + 1);
                        }
                    })?;
                pool.workers.push(worker);
            }
            // Starting up allocates, and the first phase should find the workers awake.
            pool.shared.wait_for_all();
            Ok(pool)
        }

        pub(crate) fn threads(&self) -> usize {
            self.workers.len() + 1
        }

        /// Calls `job(part, thread)` once for each part in `0..parts`, on whichever threads come to it,
        /// and returns when every call has. No two calls with the same `thread` overlap.
        ///
        /// # Panics
        /// When a call does, on whichever thread; other parts may not have run then.
        pub(crate) fn run<F: Fn(usize, usize) + Sync>(&mut self, parts: usize, job: F) {
            if self.workers.is_empty() || parts < 2 {
                return (0..parts).for_each(|part| job(part, 0));
            }
            unsafe fn call<F: Fn(usize, usize)>(data: *const (), part: usize, thread: usize) {
                // SAFETY: `data` points to the `job` below, which lives until all parts are done.
                unsafe { (*data.cast::<F>())(part, thread) }
            }
            let shared = &*self.shared;
            let erased = Job {
                data: (&raw const job).cast(),
                call: call::<F>,
            };
            // SAFETY: `&mut self` and the wait of the previous run: no part is claimed now.
            unsafe { *shared.job.get() = erased };
            shared.undone.0.store(parts, Ordering::Relaxed);
            // Sequentially consistent, like a worker's flag and its second look at the word: either it
            // sees the new phase or this thread sees it asleep.
            let phase = (shared.unclaimed.0.load(Ordering::Relaxed) >> 32).wrapping_add(1) << 32;
            shared
                .unclaimed
                .0
                .store(phase | parts as u64, Ordering::SeqCst);
            for (worker, asleep) in self.workers.iter().zip(&shared.asleep) {
                if asleep.load(Ordering::SeqCst) {
                    worker.thread().unpark();
                }
            }
            shared.work(0);
            // Nothing above panics, so workers never outlive the job's borrows.
            shared.wait_for_all();
            let panic = shared
                .panic
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
        }
    }

    impl Drop for Pool {
        fn drop(&mut self) {
            self.shared.stop.store(true, Ordering::SeqCst);
            for worker in self.workers.drain(..) {
                worker.thread().unpark();
                let _ = worker.join();
            }
        }
    }

    /// Returns when there may be something to do.
    fn wait(shared: &State, index: usize) {
        for _ in 0..YIELDS {
            for _ in 0..SPINS {
                if shared.has_work() {
                    return;
                }
                std::hint::spin_loop();
            }
            std::thread::yield_now();
        }
        shared.asleep[index].store(true, Ordering::SeqCst);
        while !shared.has_work() {
            std::thread::park();
        }
        shared.asleep[index].store(false, Ordering::SeqCst);
    }
}

/// A pointer for all threads.
pub(crate) struct SharedPointer<T>(pub(crate) *mut T);

// SAFETY: users read what nobody writes meanwhile, or write disjoint parts; each use says which.
unsafe impl<T> Sync for SharedPointer<T> {}

impl<T> SharedPointer<T> {
    /// By method, so that closures capture the whole wrapper and not the bare pointer.
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[test]
    fn every_part_runs_once_per_phase() {
        for threads in [1, 2, 3] {
            let mut pool = Pool::new(threads).expect("threads");
            let calls: Vec<_> = (0..7).map(|_| AtomicUsize::new(0)).collect();
            for phase in 0..500 {
                pool.run(calls.len(), |part, thread| {
                    assert!(thread < threads);
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

    /// Runs parts of which the caller ends none before a worker has begun one, which then does `work`.
    fn with_a_worker(pool: &mut Pool, work: impl Fn() + Sync) {
        let begun = AtomicBool::new(false);
        pool.run(8, |_, thread| {
            if thread > 0 {
                begun.store(true, Ordering::SeqCst);
                work();
            }
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn a_panic_of_any_thread_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(2).expect("threads");
        for round in 0..3 {
            let on_worker = catch_unwind(AssertUnwindSafe(|| {
                with_a_worker(&mut pool, || panic!("on purpose {round}"));
            }));
            let said = on_worker.expect_err("the worker panicked");
            let said = said.downcast_ref::<String>().expect("a message");
            assert_eq!(*said, format!("on purpose {round}"));
            let on_all = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, |_, _| panic!("everywhere"));
            }));
            assert!(on_all.is_err());
            // Neither a thread nor a later phase is lost, and no panic is told twice.
            with_a_worker(&mut pool, || {});
            let calls = AtomicUsize::new(0);
            pool.run(5, |_, _| {
                calls.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(calls.into_inner(), 5);
        }
    }

    #[test]
    fn shares_cover_everything() {
        let shares: Vec<_> = (0..3).map(|part| share(10, part, 3)).collect();
        assert_eq!(shares, [0..3, 3..6, 6..10]);
    }
}
