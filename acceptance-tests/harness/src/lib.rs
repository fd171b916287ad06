//! Runs the real CLI with the built provider against the simulator.
//!
//! Must not know how the provider works: it sees the CLI, the files it writes, and the simulated clusters.
mod cli;
mod crash;
mod search;
mod workspace;
mod world;

pub use cli::{Cli, Kind, by_turns, clis, on_path};
pub use crash::{Killed, kill_providers, wait_for};
pub use search::{places, unpacked};
pub use workspace::{Run, Workspace};
pub use world::SimulatedWorld;
