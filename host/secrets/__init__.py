"""Secrets while they are used: values that do not print, placeholders, the scanner and redaction.

Secrets at rest are in `host.store.vault`. It may import `core` and `errors`. A new encoding to look for is a spelling
in `scanner`.
"""
