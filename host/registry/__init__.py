"""Where artifacts come from and go to: `local`, what is installed under references, with the `approvals` of its bytes;
and `oci`, the registries of others.
"""
