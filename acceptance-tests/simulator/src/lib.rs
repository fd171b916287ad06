//! A federation of Proxmox VE clusters to test against. Shares no types with the provider.
