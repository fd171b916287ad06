terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }

provider "moxxie" {
  config_file = "${path.root}/multi-site.yaml"
  clusters    = var.clusters
}

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

resource "moxxie_virtual_machine" "shop" {
  name        = "shop-db"
  pool        = "production-pool"
  cluster     = "worldstream-prod"
  description = "The shop"
  memory      = "8GB"

  disks = {
    scsi0 = { size = "8GB", storage = "fast" }
    scsi1 = { size = "16GB", storage = "fast" }
  }
  network_devices = { net0 = { network = "app" } }
  migration       = { source = "delete", keep_archive = "0s" }
}

output "where" {
  value = [for vm in moxxie_virtual_machine.web : vm.cluster]
}
