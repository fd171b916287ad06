# What the workflow plans and applies: the facts that the plan decided from travel in the plan file (`inventory`), so that apply, in
# another job on another runner with an empty folder, decides from the very same ones.
terraform {
  required_providers {
    moxxie = {
      source = "moxxie/moxxie"
    }
  }
}

variable "sites" {
  type = map(object({
    endpoints     = list(string)
    api_token_env = string
    fingerprints  = list(string)
  }))
}

provider "moxxie" {
  alias       = "facts"
  config_file = "${path.root}/multi-site.yaml"
  clusters    = var.sites
}

data "moxxie_federation" "now" {
  provider = moxxie.facts
}

provider "moxxie" {
  config_file = "${path.root}/multi-site.yaml"
  clusters    = var.sites
  inventory   = data.moxxie_federation.now.inventory
}

resource "moxxie_virtual_machine" "web" {
  count  = 3
  name   = "web-${count.index + 1}"
  pool   = "production-pool"
  memory = "4GB"

  disks           = { scsi0 = { size = "20GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}

resource "moxxie_virtual_machine" "shop" {
  name    = "shop-db"
  pool    = "production-pool"
  cluster = "worldstream-prod"
  memory  = "4GB"

  disks           = { scsi0 = { size = "20GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}
