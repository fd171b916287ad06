terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }
variable "pool" { type = string }
variable "machines" { type = number }

provider "moxxie" {
  clusters = var.clusters
}

resource "moxxie_virtual_machine" "app" {
  count  = var.machines
  name   = "${var.pool}-${count.index + 1}"
  pool   = var.pool
  memory = "1GB"

  disks           = { scsi0 = { size = "4GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}
