"""Which bytes may run: keys, signature bundles, and verification in numbered steps, whose result is an Artifact.

Only `artifact` makes an Artifact. This package may import policy, component and the layers below. A new step goes into
`verification`, with its number. README.md lists the steps.
"""
