# By cluster and VMID, by UUID, or by a name that is unique in the federation.
tofu import moxxie_virtual_machine.database worldstream-prod/1000
