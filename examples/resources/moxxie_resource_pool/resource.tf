# One pool on two clusters: a Proxmox VE pool of that name on each, with limits and policy for every workspace.
resource "moxxie_resource_pool" "shop" {
  name        = "shop"
  clusters    = ["worldstream-prod", "databarn-dr"]
  description = "The shop. Ask the platform team before you raise the limits."

  limits = {
    max_vms       = 40
    max_cpu_cores = 160
    max_memory    = "512GB"
    max_storage   = "20TB"
  }

  placement_policy = {
    strategy        = "balanced"
    cluster_weights = { worldstream-prod = 75, databarn-dr = 25 }
    rules = [
      # Machines tagged `database` are spread over the clusters.
      { type = "anti-affinity", target = "tag", operator = "must", value = "database" },
      { type = "location", target = "cluster", operator = "must", value = "NL" },
    ]
  }
}

# By reference: the policy is planned before the machine, and a changed one reaches it in the same plan.
resource "moxxie_virtual_machine" "checkout" {
  count  = 2
  name   = "checkout-${count.index + 1}"
  pool   = moxxie_resource_pool.shop.name
  memory = "2GB"

  disks           = { scsi0 = { size = "10GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}
