# Placed by its pool: the plan computes and shows the cluster.
resource "moxxie_virtual_machine" "web" {
  count  = 3
  name   = "web-${count.index + 1}"
  pool   = "production-pool"
  cpu    = { cores = 2 }
  memory = "4GB"
  tags   = ["web"]

  disks           = { scsi0 = { size = "20GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}

# Pinned. Changing `cluster` moves it by backup and restore.
resource "moxxie_virtual_machine" "database" {
  name        = "orders-db"
  pool        = "production-pool"
  cluster     = "worldstream-prod"
  tier        = "primary"       # a pin to a cluster of another tier is refused
  needs       = ["supports_ha"] # and so is one to a cluster that doesn't declare it
  description = "Orders. On call: the shop team."
  cpu         = { cores = 4 }
  memory      = "8GB"
  tags        = ["database"]

  disks = {
    scsi0 = { size = "32GB", storage = "fast", ssd = true }
    scsi1 = { size = "200GB", storage = "fast", discard = true }
  }
  network_devices = { net0 = { network = "app", firewall = true } }

  migration = {
    shutdown_timeout = "20m"
    keep_source      = "7d"
    keep_archive     = "1d"
  }
  timeouts = { update = "6h" }
}

output "where" {
  description = "Known at plan."
  value       = moxxie_virtual_machine.web[*].cluster
}
