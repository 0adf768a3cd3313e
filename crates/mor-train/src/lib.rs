//! Training and evaluation: data order, loss, optimizer, schedule, checkpoints and metrics.
