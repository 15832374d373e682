"""Which bytes may run: keys, signature bundles, and verification as numbered steps, which end in an Artifact.

Only `artifact` makes an Artifact. It may import policy, component and what stands below them. A new step goes into
`verification`, with its number. README.md has the steps.
"""
