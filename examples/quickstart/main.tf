# Three sites of one organisation. Which site a virtual machine lands on is decided by `plan`, and shown there.
terraform {
  required_providers {
    moxxie = {
      source = "moxxie/moxxie"
    }
  }
}

provider "moxxie" {
  # What the sites are: facts, pools, policies, migration paths. This file is the organisation's, not ours.
  config_file = "${path.root}/multi-site.yaml"

  # How to reach them. Keys here win over the file's connections, so a laptop, a tunnel or a test can come another way.
  clusters = var.clusters
}

variable "clusters" {
  description = "Connections by cluster name. Secrets stay in the environment: api_token_env names the variable."
  type = map(object({
    endpoints     = list(string)
    api_token_env = string
    fingerprints  = list(string)
  }))
}

# Placed by the pool's policy: the plan computes a cluster for each.
resource "moxxie_virtual_machine" "web" {
  count  = 5
  name   = "web-${count.index + 1}"
  pool   = "production-pool"
  cpu    = { cores = 2 }
  memory = "4GB"
  tags   = ["web"]

  disks           = { scsi0 = { size = "20GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}

# Cheapest of the development pool's clusters.
resource "moxxie_virtual_machine" "sandbox" {
  name   = "sandbox"
  pool   = "development-pool"
  memory = "2GB"

  disks           = { scsi0 = { size = "10GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}

# Pinned. Change this one line, and apply moves the machine to the other site.
resource "moxxie_virtual_machine" "shop" {
  name    = "shop-db"
  pool    = "production-pool"
  cluster = "worldstream-prod"
  cpu     = { cores = 4 }
  memory  = "8GB"
  tags    = ["database"]

  disks = {
    scsi0 = { size = "32GB", storage = "fast" }
    scsi1 = { size = "100GB", storage = "fast" }
  }
  network_devices = { net0 = { network = "app" } }
  migration       = { keep_source = "0s", keep_archive = "0s", source = "delete" }
}

output "where" {
  description = "Known at plan."
  value = merge(
    { for vm in moxxie_virtual_machine.web : vm.name => vm.cluster },
    { sandbox = moxxie_virtual_machine.sandbox.cluster, shop-db = moxxie_virtual_machine.shop.cluster },
  )
}
