terraform {
  required_providers {
    moxxie = {
      source = "moxxie/moxxie"
    }
  }
}

provider "moxxie" {
  # Facts, pools, policies and migration paths, in the multi-site guide's format.
  config_file = "${path.root}/multi-site.yaml"

  # Connections. A key here wins over the file's. Secrets stay in the environment.
  clusters = {
    for name, site in var.sites : name => {
      endpoints     = site.endpoints
      api_token_env = site.api_token_env
      fingerprints  = site.fingerprints
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
