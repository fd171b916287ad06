# Two enrolled clusters: what stands here is kept on the clusters themselves, for every workspace that connects to them.
resource "moxxie_cluster" "prod" {
  name             = "worldstream-prod"
  display_name     = "Production, Amsterdam"
  tier             = "primary"
  hosting_provider = "Worldstream"
  location         = "Amsterdam, NL"
  coordinates      = { latitude = 52.37, longitude = 4.9 }
  tags             = ["production"]

  # What a machine names, and what it is here.
  storage_classes = { fast = "ceph-pool" }
  networks        = { app = { bridge = "vmbr0", vlan = 120, subnet = "10.1.20.0/24", gateway = "10.1.20.1" } }

  pricing = { currency = "EUR", core_hour = 0.012, gb_hour = 0.003, storage_gb_month = { fast = 0.08 } }

  # Machines leave on this path at night, over a storage that both clusters mount.
  migration_paths = {
    databarn-dr = {
      max_bandwidth = "500Mbps"
      transport     = { storage = "transfer" }
      window        = { from = "22:00", to = "05:00", zone = "Europe/Amsterdam" }
    }
  }
}

resource "moxxie_cluster" "dr" {
  name            = "databarn-dr"
  tier            = "secondary"
  location        = "Rotterdam, NL"
  storage_classes = { fast = "zfs-pool" }
  networks        = { app = { bridge = "vmbr0", vlan = 220 } }

  # Nothing new comes in while this is set; what is there goes on.
  cordoned = true
}

# By reference, so that Terraform knows the order: clusters first, and last when everything is destroyed.
resource "moxxie_resource_pool" "office" {
  name     = "office"
  clusters = [moxxie_cluster.prod.name, moxxie_cluster.dr.name]
}

resource "moxxie_virtual_machine" "wiki" {
  name   = "wiki"
  pool   = moxxie_resource_pool.office.name
  memory = "2GB"

  disks           = { scsi0 = { size = "10GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}
