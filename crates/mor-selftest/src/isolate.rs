//! Keeping what goes wrong in one place from ending the rest.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use crate::{Outcome, Problem};

/// How many calls of [`isolated`] are under way, one within the other.
static DEPTH: AtomicUsize = AtomicUsize::new(0);
/// The first panic since the innermost began, on whichever thread: others follow from it.
static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// What `work` gives. A panic in it, or in a thread that it waits for, becomes its failure; nothing is printed.
pub(crate) fn isolated<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    // The hook is the whole process's: it is set once, and panics of others go on to the one before it.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if DEPTH.load(Ordering::SeqCst) == 0 {
                return before(panic);
            }
            let text = panic.payload_as_str().unwrap_or("no reason given");
            // The last two names: whole paths tell where the program was built.
            let place = panic.location().map(|place| {
                let mut names: Vec<&str> = place.file().rsplit(['/', '\\']).take(2).collect();
                names.reverse();
                format!(" ({}:{})", names.join("/"), place.line())
            });
            let text = format!("{text}{}", place.unwrap_or_default());
            first().get_or_insert(text);
        }));
    });
    first().take();
    DEPTH.fetch_add(1, Ordering::SeqCst);
    // What a part has found so far is plain data, whole at any time. A device that was lost fails the cases after it too.
    let result = catch_unwind(AssertUnwindSafe(work));
    DEPTH.fetch_sub(1, Ordering::SeqCst);
    result.unwrap_or_else(|payload| {
        let thrown = || {
            let text = payload.downcast_ref::<String>().cloned();
            text.or_else(|| {
                payload
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
            })
        };
        let said = first().take().or_else(thrown);
        let said = said.unwrap_or_else(|| "no reason given".to_owned());
        Err(Problem::Failed(format!("it panicked: {said}")))
    })
}

fn first() -> std::sync::MutexGuard<'static, Option<String>> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_failures_with_their_reason() {
        let said = |outcome: Outcome| match outcome {
            Err(Problem::Failed(text)) => text,
            other => panic!("{other:?}"),
        };
        let here = said(isolated(|| panic!("broken {}", 7)));
        assert!(
            here.contains("broken 7") && here.contains("(src/isolate.rs:"),
            "{here}"
        );
        let elsewhere = said(isolated(|| {
            let thread = std::thread::spawn(|| -> Outcome { panic!("driver") });
            let joined = thread.join();
            joined.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
        }));
        assert!(elsewhere.contains("driver"), "{elsewhere}");
        // One within another.
        let outer = isolated(|| {
            let inner = said(isolated(|| panic!("inner")));
            assert!(inner.contains("inner"));
            Ok(3)
        });
        assert!(matches!(outer, Ok(3)));
    }
}
