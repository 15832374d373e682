"""Secrets while they are used: values that do not print, placeholders, the scanner and redaction.

Secrets at rest are in `host.store.vault`. The package may import `core` and `errors`. A new encoding of secrets in
answers goes into the spellings of `scanner`.
"""
