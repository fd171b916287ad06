resource "moxxie_virtual_machine" "shop" {
  name            = "shop-1"
  pool            = "production-pool"
  agent           = true
  disks           = { scsi0 = { size = "20GB" } }
  network_devices = { net0 = { network = "app" } }
  cloud_init      = { addresses = { net0 = { ipv4 = "10.1.20.5/24", gateway4 = "10.1.20.1" } } }
}

# Read again in each plan; at the first apply once the machine is there.
data "moxxie_virtual_machine" "shop" {
  machine            = "${moxxie_virtual_machine.shop.cluster}/${moxxie_virtual_machine.shop.vmid}"
  wait_for_addresses = "2m"
}

output "shop" {
  value = data.moxxie_virtual_machine.shop.ipv4_addresses
}
