//! How Terraform talks to us. Must not know Proxmox VE.
