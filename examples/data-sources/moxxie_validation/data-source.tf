# Read at top level, asserted in a check: what is wrong is a warning of the plan, and CI can look at the output.
data "moxxie_validation" "federation" {
  check_connectivity = true
}

check "federation" {
  assert {
    condition     = data.moxxie_validation.federation.valid
    error_message = join("; ", data.moxxie_validation.federation.problems[*].message)
  }
}

output "federation_is_valid" {
  value = data.moxxie_validation.federation.valid
}
