//! What the fuzz targets share: the functions of `tests/inputs`, and their seeds.
//!
//! A finding is a panic. It becomes a named input of `tests/corpus` where a server can send it, and
//! a test of the part that it was found in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a finding is a panic")]

use std::{env, fs};

pub use libfuzzer_sys;

#[path = "../../../tests/inputs/mod.rs"]
mod inputs;

pub use targets::run;

mod targets {
    use crate::inputs::targets::{TARGETS, Target};

    pub(crate) fn target(name: &str) -> &'static Target {
        TARGETS.iter().find(|target| target.name == name).expect("a target of that name")
    }

    /// Tries one input.
    pub fn run(name: &str, input: &[u8]) {
        (target(name).run)(input);
    }
}

/// Writes the seeds of a target into the folder that `SEEDS` names.
pub fn write_seeds(name: &str) {
    let Some(folder) = env::var_os("SEEDS") else { return };
    for (number, seed) in (targets::target(name).seeds)().iter().enumerate() {
        fs::write(std::path::Path::new(&folder).join(format!("seed-{number}")), seed).unwrap();
    }
}

/// The target of that name.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: { $crate::write_seeds($name); },
            |input: &[u8]| $crate::run($name, input)
        );
    };
}
