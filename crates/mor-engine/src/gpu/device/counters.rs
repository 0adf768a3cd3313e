//! What is asked of a GPU, in numbers.

/// What a decoder asked of its GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Kernels launched, without those whose dispatch turned out to be empty, and without those of selected rows of a
    /// prompt, whose number stays on the GPU.
    pub launches: u64,
    /// Command buffers handed over.
    pub submits: u64,
    /// Results waited for.
    pub readbacks: u64,
    /// Bytes of what launches only read, each of them once per launch: weights, rows, and caches up to the last position.
    /// Where a prompt's rows are read at once, buffers count whole, and steps of selected rows not at all.
    pub bytes_read: u64,
}

impl std::ops::Add for Counters {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            launches: self.launches + more.launches,
            submits: self.submits + more.submits,
            readbacks: self.readbacks + more.readbacks,
            bytes_read: self.bytes_read + more.bytes_read,
        }
    }
}

impl std::ops::Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            launches: self.launches - before.launches,
            submits: self.submits - before.submits,
            readbacks: self.readbacks - before.readbacks,
            bytes_read: self.bytes_read - before.bytes_read,
        }
    }
}
