//! Owns `federate migrate`: that it is not there, and what does the same.
use crate::arguments::Migrate;
use crate::report::{Exit, Output};

/// Says how a machine is moved.
pub(crate) fn run(asked: &Migrate) -> Output {
    let (verb, does) = if asked.dry_run { ("plan", "shows the move") } else { ("apply", "moves it") };
    let stderr = format!(
        "federate: `migrate` is not there yet, and nothing was done. A machine moves when its configuration says so:\n\n  \
         resource \"moxxie_virtual_machine\" \"…\" {{\n    name    = {:?}\n    cluster = {:?}   # was {:?}\n    …\n  }}\n\n\
         and `tofu {verb}` (or `terraform {verb}`) {does}. A machine that is not managed yet is imported first, once: \
         `tofu import moxxie_virtual_machine.NAME {}/VMID`.\n",
        asked.vm, asked.to, asked.from, asked.from
    );
    Output { stdout: String::new(), stderr, exit: Exit::Misuse }
}
