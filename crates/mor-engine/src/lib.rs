//! Inference without a framework: kernels, routing, caches, sampler and chat session.
