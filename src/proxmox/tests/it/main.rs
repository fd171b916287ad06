//! The client against canned answers of Proxmox VE, over real TLS on loopback.

mod calls;
mod endpoints;
mod errors;
mod login;
mod proxies;
mod server;
mod tasks;
mod wire;
