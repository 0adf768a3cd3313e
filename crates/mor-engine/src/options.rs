//! How a context runs, wherever it does.

use mor_config::Depth;

/// How a decoder runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecodeOptions {
    /// Depth of every recursive layer, or of the shared block; as configured by default.
    pub depth: Depth,
    /// When routers decide.
    pub routing: Routing,
    /// Threads, the caller's included; 0 picks [`DecodeOptions::default_threads`]. Always 1 in
    /// the browser.
    pub threads: usize,
}

impl DecodeOptions {
    /// As many threads as there are processors, at most 4: decoding is bound by memory.
    pub fn default_threads() -> usize {
        std::thread::available_parallelism().map_or(1, |n| n.get().min(4))
    }
}

/// When routers decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// At every token, as full recomputation would.
    #[default]
    Live,
    /// On the prompt once: what its last token took holds for every token after it.
    Locked,
}
