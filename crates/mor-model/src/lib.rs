//! The differentiable model: Burn modules, routers and custom operations.
