# By name, from every connected cluster that has it. A Proxmox VE pool without a record gets one with the next apply.
tofu import moxxie_resource_pool.shop shop
