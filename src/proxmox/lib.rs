//! How we talk to Proxmox VE clusters. Must not know Terraform.
