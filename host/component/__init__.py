"""What a component's bytes say of themselves: its sections, manifest, operations and schemas; and `build`, which
makes one.

Nothing here runs a component or decides what it may do. It may import `host.run`, `secrets`, `core` and `errors`. A
new field of the manifest goes into `manifest`, and into the README of `catalyst/`.
"""
