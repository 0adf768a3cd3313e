//! Bytes of weights in memory, and of those that are read.

use super::{Block, Layer, Router};

impl Block {
    /// Bytes of its matrices.
    fn bytes(&self) -> usize {
        let Self {
            qkv,
            attention_output,
            linear1,
            linear2,
            ..
        } = self;
        let all = [qkv, attention_output, linear1, linear2];
        all.iter().map(|linear| linear.matrix.bytes()).sum()
    }
}

impl Router {
    /// Bytes of its matrices.
    pub(super) fn bytes(&self) -> usize {
        let pooler = self
            .pooler
            .as_ref()
            .map_or(0, |linear| linear.matrix.bytes());
        pooler + self.hidden.matrix.bytes() + self.output.matrix.bytes()
    }
}

impl Layer {
    /// Bytes of the matrices that `steps` steps read.
    pub(super) fn bytes_read(&self, steps: usize) -> usize {
        let projections = self.step_projections.iter().take(steps);
        let projections: usize = projections.map(|linear| linear.matrix.bytes()).sum();
        steps * self.block.bytes() + projections
    }

    /// Bytes of all its matrices.
    pub(super) fn bytes(&self) -> usize {
        let projections = self.step_projections.iter();
        let projections: usize = projections.map(|linear| linear.matrix.bytes()).sum();
        self.block.bytes() + projections + self.router.as_ref().map_or(0, Router::bytes)
    }
}
