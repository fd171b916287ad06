# By name: the cluster's key in `clusters` of the provider block. One that is not enrolled yet needs no import.
tofu import moxxie_cluster.prod worldstream-prod
