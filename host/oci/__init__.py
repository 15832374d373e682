"""Components in OCI registries (distribution-spec 1.1), laid out as the CNCF's "Wasm OCI Artifact layout" says.

reference.py    `oci://registry.example/path/name:tag@sha256:…`
credentials.py  who the registry is told that we are, from docker's configuration
challenges.py   what `WWW-Authenticate` asks for
tokens.py       and how that becomes an `Authorization`
failures.py     everything that can go wrong on the way, as RegistryError
exchange.py     one request and its answer: authorization, redirects, tries, caps
client.py       the registry's verbs
referrers.py    what refers to a manifest, with the registry's help or without
upload.py       a blob into a registry, in pieces, continued after a broken connection
download.py     a blob out of a registry, continued and verified
partial.py      the file that a download is in until it is complete
progress.py     how far a transfer has come
wire.py         dataclasses as JSON that others write and read
documents.py    descriptors, manifests and indexes, read strictly
layout.py       a component and its signature bundles as OCI manifests
transfer.py     `push` and `pull`: what the rest of the host uses

Only `reference` is free of httpx2 and pydantic; import what you need from the module that has it.
"""
