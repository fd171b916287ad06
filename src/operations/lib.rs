//! Carries decisions out on the clusters. Must not know Terraform nor HTTP.
