//! Where the time goes: seconds by kernel, counted only while asked to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Families of kernels that time is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Linear layers, with or without a GELU behind, forward.
    Linear,
    /// Gradients of linear layers.
    LinearBackward,
    /// Output head and cross-entropy, with their gradients.
    CrossEntropy,
    /// Attention, forward.
    Attention,
    /// Gradients of attention.
    AttentionBackward,
    /// Layer norms, forward and backward.
    LayerNorm,
    /// Gradients of the GELU.
    Gelu,
    /// Dropout, forward and backward.
    Dropout,
    /// Rotary positions, forward and backward.
    Rotary,
    /// Gradients of embeddings.
    Embedding,
    /// Updates of the optimizer, and norms of gradients.
    Optimizer,
}

impl Kernel {
    /// All families.
    pub const ALL: [Self; 11] = [
        Self::Linear,
        Self::LinearBackward,
        Self::CrossEntropy,
        Self::Attention,
        Self::AttentionBackward,
        Self::LayerNorm,
        Self::Gelu,
        Self::Dropout,
        Self::Rotary,
        Self::Embedding,
        Self::Optimizer,
    ];

    /// A name for tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::LinearBackward => "linear, backward",
            Self::CrossEntropy => "head and cross-entropy",
            Self::Attention => "attention",
            Self::AttentionBackward => "attention, backward",
            Self::LayerNorm => "layer norm",
            Self::Gelu => "GELU, backward",
            Self::Dropout => "dropout",
            Self::Rotary => "rotary",
            Self::Embedding => "embedding, backward",
            Self::Optimizer => "optimizer",
        }
    }
}

static COUNTING: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; Kernel::ALL.len()] =
    [const { AtomicU64::new(0) }; Kernel::ALL.len()];

/// Starts counting from zero.
pub fn start_profile() {
    for counter in &NANOSECONDS {
        counter.store(0, Ordering::Relaxed);
    }
    COUNTING.store(true, Ordering::Relaxed);
}

/// Stops counting; seconds by kernel since the start, as their callers waited for them.
pub fn stop_profile() -> Vec<(Kernel, f64)> {
    COUNTING.store(false, Ordering::Relaxed);
    let seconds = |at: usize| NANOSECONDS[at].load(Ordering::Relaxed) as f64 * 1e-9;
    let kernels = Kernel::ALL.into_iter().enumerate();
    kernels.map(|(at, kernel)| (kernel, seconds(at))).collect()
}

/// Counts the time until it is dropped.
pub(crate) struct Timer(Option<(Kernel, Instant)>);

/// Counts the time of the caller's scope for a kernel.
pub(crate) fn timer(kernel: Kernel) -> Timer {
    let counting = COUNTING.load(Ordering::Relaxed);
    Timer(counting.then(|| (kernel, Instant::now())))
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((kernel, started)) = self.0 {
            let elapsed = started.elapsed().as_nanos() as u64;
            NANOSECONDS[kernel as usize].fetch_add(elapsed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_when_asked() {
        let mut y = vec![0.0; 1 << 16];
        let x = vec![1.0; 1 << 16];
        start_profile();
        crate::dropout(&x, 0.5, 1, &mut y);
        let spent = stop_profile();
        assert_eq!(spent.len(), Kernel::ALL.len());
        let (kernel, seconds) = spent[Kernel::Dropout as usize];
        assert!(kernel == Kernel::Dropout && seconds > 0.0);
        crate::dropout(&x, 0.5, 1, &mut y);
        let after = NANOSECONDS[Kernel::Dropout as usize].load(Ordering::Relaxed);
        assert_eq!(after as f64 * 1e-9, seconds);
    }
}
