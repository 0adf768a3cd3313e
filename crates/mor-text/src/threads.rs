//! How many threads are started.

/// Most threads that `RAYON_NUM_THREADS` can ask for, unless the machine has more cores.
const MOST: usize = 256;

/// Keeps `RAYON_NUM_THREADS` from asking for more threads than any machine can use, which would take all its memory
/// before anything is done. Does nothing where less is asked for, or where threads have been started already.
pub fn bound_threads() {
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if let Some(threads) = bounded(asked.as_deref(), cores) {
        // An error says that they have been started.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global();
    }
}

/// The number of threads instead of what was `asked` for, where that is too many.
fn bounded(asked: Option<&str>, cores: usize) -> Option<usize> {
    let asked = asked?.trim();
    let is_number = !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit());
    // A number that is too large to be read is too many as well.
    let asked = is_number.then(|| asked.parse().unwrap_or(usize::MAX))?;
    let most = MOST.max(cores);
    (asked > most).then_some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_beyond_reason_are_bounded() {
        for fine in [
            None,
            Some(""),
            Some("x"),
            Some("0"),
            Some("1"),
            Some("256"),
            Some("-5"),
        ] {
            assert_eq!(bounded(fine, 2), None);
        }
        assert_eq!(bounded(Some("100000"), 2), Some(256));
        assert_eq!(bounded(Some("100000"), 1024), Some(1024));
        assert_eq!(bounded(Some("99999999999999999999999"), 2), Some(256));
    }
}
