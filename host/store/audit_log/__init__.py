"""The audit log: written (`log`), chained (`chain`), read (`records`), verified and pruned (`verification`)."""
