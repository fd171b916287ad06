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

resource "moxxie_virtual_machine" "shop" {
  name        = "shop-db"
  pool        = "production-pool"
  cluster     = "worldstream-prod"
  description = "The shop"
  memory      = "4GB"

  disks = {
    scsi0 = { size = "8GB", storage = "fast" }
    scsi1 = { size = "4GB", storage = "fast" }
  }
  network_devices = { net0 = { network = "app" } }
  migration       = { source = "delete", keep_archive = "0s" }
}
