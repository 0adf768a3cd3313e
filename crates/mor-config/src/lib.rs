//! Model configuration, presets, parameter counts and checkpoint folders.
