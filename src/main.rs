//! Wires the provider to the plugin protocol.
fn main() {}
