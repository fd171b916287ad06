terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }

# Connections alone: what the clusters are stands in resources, and on the clusters.
provider "moxxie" {
  clusters = var.clusters
}

resource "moxxie_cluster" "prod" {
  name            = "worldstream-prod"
  tier            = "primary"
  location        = "Amsterdam, NL"
  storage_classes = { fast = "ceph-pool" }
  networks        = { app = { bridge = "vmbr0", vlan = 120 } }
  migration_paths = { databarn-dr = { max_bandwidth = "500Mbps", transport = { storage = "transfer" } } }
}

resource "moxxie_cluster" "dr" {
  name            = "databarn-dr"
  tier            = "secondary"
  location        = "Rotterdam, NL"
  storage_classes = { fast = "zfs-pool" }
  networks        = { app = { bridge = "vmbr0", vlan = 220 } }
}

resource "moxxie_cluster" "edge" {
  name            = "hetzner-edge"
  tier            = "edge"
  location        = "Frankfurt, DE"
  storage_classes = { fast = "local-lvm" }
  networks        = { app = { bridge = "vmbr0" } }
}

resource "moxxie_resource_pool" "production" {
  name     = "production-pool"
  clusters = [moxxie_cluster.prod.name, moxxie_cluster.dr.name]
  limits   = { max_vms = 4 }
}

resource "moxxie_resource_pool" "development" {
  name     = "development-pool"
  clusters = [moxxie_cluster.edge.name]
}

resource "moxxie_virtual_machine" "dns" {
  name   = "dns"
  pool   = moxxie_resource_pool.production.name
  memory = "1GB"

  disks           = { scsi0 = { size = "4GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}
