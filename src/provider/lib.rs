//! Terraform's nouns. Decides nothing.
