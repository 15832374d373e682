"""Secrets while they are used: values that do not print, placeholders, and redaction.

Secrets at rest are in `host.store.vault`. The package may import `core` and `errors`. A new way to write a secret goes
into `readings`, a new rule of what is looked for into `windows`, a new charset into `charsets`.
"""
