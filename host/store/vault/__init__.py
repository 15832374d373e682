"""Secrets at rest: the vault (`secrets`), its data keys (`keys`), the master key (`master`), and the other places that
a secret's value may come from (`sources`)."""
