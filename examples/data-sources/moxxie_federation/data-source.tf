data "moxxie_federation" "now" {}

# A warning of every plan while a site is dark, has no quorum, or is nearly full.
check "sites" {
  assert {
    condition     = alltrue([for site in data.moxxie_federation.now.clusters : site.reachable && site.quorate])
    error_message = "A site is dark or has no quorum."
  }
  assert {
    condition = alltrue([
      for site in data.moxxie_federation.now.clusters :
      try(site.used.memory / site.capacity.memory < 0.9, true)
    ])
    error_message = "A site has more than 90 % of its memory in use."
  }
}

output "sites" {
  value = { for name, site in data.moxxie_federation.now.clusters : name => site.version }
}

# Placement that is exact wherever apply runs: the facts travel in the plan file, with nothing kept between plan and apply.
provider "moxxie" {
  alias       = "exact"
  config_file = "${path.root}/multi-site.yaml"
  clusters    = var.sites
  inventory   = data.moxxie_federation.now.inventory
}

resource "moxxie_virtual_machine" "worker" {
  provider = moxxie.exact
  count    = 2
  name     = "worker-${count.index + 1}"
  pool     = "production-pool"

  disks           = { scsi0 = { size = "10GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}
