# In a configuration of its own, for the eyes of whoever approves the move:
# tofu plan -var 'move={machine="shop-db",target="databarn-dr"}'
variable "move" {
  type    = object({ machine = string, target = string })
  default = null
}

data "moxxie_migration_plan" "move" {
  count        = var.move == null ? 0 : 1
  machine      = var.move.machine
  target       = var.move.target
  max_downtime = "30m"
}

check "move" {
  assert {
    condition     = alltrue(data.moxxie_migration_plan.move[*].feasible)
    error_message = join("\n", flatten(data.moxxie_migration_plan.move[*].checks[*].findings[*]))
  }
}

output "downtime_seconds" {
  value = one(data.moxxie_migration_plan.move[*].downtime_seconds)
}
