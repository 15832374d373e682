"""Components in OCI registries (distribution-spec 1.1), in the CNCF's "Wasm OCI Artifact layout".

transfer.py   `push` and `pull` of whole artifacts: the way in for the rest of the host
layout.py     a component and its signature bundles as OCI manifests
documents.py  descriptors, manifests and indexes, read strictly
client.py     the operations of a registry: manifests, blobs, referrers
blobs.py      downloads and uploads of blobs, with progress
exchange.py   one request and its answer: retries, deadline, authorization, redirects
auth.py       challenges, docker's credentials, tokens
failures.py   every failure of an exchange, as RegistryError
reference.py  `oci://registry.example/path/name:tag@sha256:…`

It may import `trust`, `component`, `egress` and below, not `store`, `sandbox` or `capabilities`. Only `reference` is
free of httpx2 and pydantic, so import from the module and not from here. A new operation of registries is a method of
RegistryClient; a new kind of artifact is a pair of functions in `layout.py`.
"""
