"""Secrets at rest: the vault, the keys that seal it, the master key, and where else a secret may come from."""
