//! Ctrl-C and its like while a run goes on: the first asks it to finish, a later one is not waited for.

use std::time::{Duration, Instant};

/// Signals so soon after the first are the same one: programs like `timeout` send theirs to a process and to its group.
const ECHO: Duration = Duration::from_secs(1);
/// How long a checkpoint may take to be written before a signal gives it up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What has been asked for so far.
#[derive(Debug, Default)]
pub(super) struct Interrupts {
    first: Option<Instant>,
    /// When the writing that is under way began.
    saving: Option<Instant>,
}

/// What to do about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Finish the step, then save.
    Finish,
    /// Nothing.
    Nothing,
    /// Let the checkpoint be written, for as long as this.
    Wait(Duration),
    /// Leave at once.
    Leave,
}

impl Interrupts {
    /// A checkpoint begins to be written, or that has ended.
    pub(super) fn saving(&mut self, begins: bool, now: Instant) {
        self.saving = begins.then_some(now);
    }

    /// A signal has come.
    pub(super) fn signal(&mut self, now: Instant) -> Answer {
        let Some(first) = self.first else {
            self.first = Some(now);
            return Answer::Finish;
        };
        if now.saturating_duration_since(first) < ECHO {
            return Answer::Nothing;
        }
        let left = self
            .saving
            .map(|since| PATIENCE.saturating_sub(now.saturating_duration_since(since)));
        match left {
            Some(left) if !left.is_zero() => Answer::Wait(left),
            _ => Answer::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_comes_twice_counts_once_and_a_later_one_leaves() {
        let start = Instant::now();
        let mut interrupts = Interrupts::default();
        assert_eq!(interrupts.signal(start), Answer::Finish);
        assert_eq!(interrupts.signal(start), Answer::Nothing);
        assert_eq!(interrupts.signal(start + ECHO / 2), Answer::Nothing);
        assert_eq!(interrupts.signal(start + ECHO), Answer::Leave);
    }

    #[test]
    fn a_checkpoint_is_given_up_only_when_it_has_taken_long() {
        let start = Instant::now();
        let mut interrupts = Interrupts::default();
        assert_eq!(interrupts.signal(start), Answer::Finish);
        let later = start + 3 * ECHO;
        interrupts.saving(true, later);
        assert_eq!(interrupts.signal(later), Answer::Wait(PATIENCE));
        assert_eq!(
            interrupts.signal(later + PATIENCE / 2),
            Answer::Wait(PATIENCE / 2)
        );
        assert_eq!(interrupts.signal(later + PATIENCE), Answer::Leave);
        interrupts.saving(false, later);
        assert_eq!(interrupts.signal(later), Answer::Leave);
    }
}
