"""The state of the operator: components, secrets, policies, grants, trusted keys, API keys, and the audit log of all of
it.

It is SQLite in the state directory, or PostgreSQL. It may import trust, policy, component and the layers below them,
and knows neither the sandbox nor the network. A new table goes into `tables` and a migration; its reader is a class
that gets the `AuditLog`, so that every change is recorded in its transaction. README.md has the details.
"""
