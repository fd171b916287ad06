# One local feeds the pool, the data source and the machines. The data source refers to no resource: so it is read in every plan,
# and every cluster is known there.
locals {
  fleet = {
    pool     = "fleet"
    clusters = ["worldstream-prod", "databarn-dr"]
    policy   = { strategy = "balanced", cluster_weights = { worldstream-prod = 60, databarn-dr = 40 } }

    machines = {
      api    = { memory = "8GB" }
      worker = { memory = "16GB" }
      cache  = { memory = "4GB" }
    }
  }
}

resource "moxxie_resource_pool" "fleet" {
  name             = local.fleet.pool
  clusters         = local.fleet.clusters
  placement_policy = local.fleet.policy
}

data "moxxie_placement" "fleet" {
  pool             = local.fleet.pool
  clusters         = local.fleet.clusters
  placement_policy = local.fleet.policy

  requests = {
    for name, machine in local.fleet.machines : name => {
      memory = machine.memory
      disks  = { scsi0 = { size = "10GB", storage = "fast" } }
    }
  }
}

resource "moxxie_virtual_machine" "fleet" {
  for_each = local.fleet.machines
  name     = each.key
  pool     = moxxie_resource_pool.fleet.name
  cluster  = data.moxxie_placement.fleet.placements[each.key].cluster
  memory   = each.value.memory
  disks    = { scsi0 = { size = "10GB", storage = "fast" } }
}

output "fleet" {
  value = { for name, placed in data.moxxie_placement.fleet.placements : name => placed.cluster }
}
