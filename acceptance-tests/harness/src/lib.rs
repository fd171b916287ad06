//! Runs the real CLI with the built provider against the simulator.
