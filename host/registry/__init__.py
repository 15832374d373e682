"""Where artifacts come from and go to: `local`, the operator's own references, and `oci`, the registries of others."""
