//! The program under test.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod training;

use std::process::Command;

/// `mor`, on the CPU unless its arguments say otherwise: results must not depend on which GPU the machine has.
pub(crate) fn mor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mor"));
    command.env("MOR_DEVICE", "cpu");
    command
}
