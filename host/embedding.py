"""A component and its manifest in one file: what is registered, signed and sent has both, under one digest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from host.errors import ManifestError
from host.manifest import Manifest, embedded_text, text_beside
from host.sections import MANIFEST_SECTION, append_section


def embed(wasm: bytes, manifest_text: bytes) -> bytes:
    """The component with this manifest inside, and with what of it other wasm tools read in sections of their own
    (WebAssembly tool-conventions; the sections are named as OCI's annotations are). Raises ManifestError, also where
    the component has a manifest already."""
    manifest = Manifest.parse(manifest_text)
    if embedded_text(wasm) is not None:
        raise ManifestError("the component has a manifest already")
    for section, value in (
        ("version", manifest.version),
        ("description", manifest.description),
        ("licenses", manifest.license),
        ("authors", manifest.authors),
        ("homepage", manifest.homepage),
        ("source", manifest.source),
    ):
        if value:
            wasm = append_section(wasm, section, value.encode())
    return append_section(wasm, MANIFEST_SECTION, manifest_text)


def self_contained(wasm: bytes, path: Path) -> bytes:
    """The component from the file `path` with its manifest inside: its own, or the one beside it. Where it has both,
    its own counts, and the other may not say more: people would read it and believe it. Raises ManifestError that says
    what differs, NotAComponent."""
    beside = text_beside(path)
    if beside is None:
        return wasm
    inside = embedded_text(wasm)
    if inside is None:
        return embed(wasm, beside)
    if inside != beside and (differences := tuple(_beyond(Manifest.parse(inside), Manifest.parse(beside)))):
        raise ManifestError(
            f"the manifest beside the component differs from the one inside: {'; '.join(differences)}",
            hint="build the component from it again, or take it away",
        )
    return wasm


def _beyond(inside: Manifest, beside: Manifest) -> Iterator[str]:
    """What `beside` says that `inside` does not."""
    for name, said, counts in (("id", beside.id, inside.id), ("version", beside.version, inside.version)):
        if said and said != counts:
            yield f"its {name} is {said}, and not {counts or 'left open'}"
    yield from (f"it asks for {name} as well" for name in beside.interfaces() if name not in inside.interfaces())
    secrets = {need.name for need in inside.secrets}
    yield from (f"it asks for the secret {need.name} as well" for need in beside.secrets if need.name not in secrets)
    if inside.domains is not None:
        more = (domain for domain in beside.domains or () if domain not in inside.domains)
        yield from (f"it asks for the domain {domain!r} as well" for domain in more)
