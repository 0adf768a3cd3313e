//! CPU kernels of the transformer, forward and backward, free of any framework.
