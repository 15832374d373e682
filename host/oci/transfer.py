"""Whole artifacts to a registry and back: a component with the signatures that go with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from host.component.manifest import Manifest
from host.core.names import Digest
from host.errors import ArtifactError, InputError, RegistryError
from host.oci import layout
from host.oci.blobs import Progress
from host.oci.client import RegistryClient
from host.oci.documents import EMPTY_CONTENT, IMAGE_MANIFEST
from host.trust.bundle import MAX_BUNDLES

_MAX_BUNDLE_MANIFEST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Pulled:
    """A component whose bytes have the digest `layer`, named by the manifest with the digest `digest`. That says that
    nothing was changed on the way, and nothing about who made it: `bundles`, signatures in JSON, still prove nothing.
    `imports`, `exports` and `annotations` are the publisher's words."""

    wasm: bytes = field(repr=False)
    bundles: tuple[str, ...] = field(repr=False)
    digest: Digest
    layer: Digest
    imports: tuple[str, ...]
    exports: tuple[str, ...]
    annotations: Mapping[str, str]


def push(
    registry: RegistryClient,
    *,
    wasm: bytes,
    imports: Sequence[str],
    exports: Sequence[str],
    manifest: Manifest | None = None,
    bundles: Sequence[str] = (),
    created: datetime | None = None,
    progress: Progress | None = None,
) -> Digest:
    """Put a component under the reference's tag (`latest` where it has none), and each of `bundles`, signatures in
    JSON, beside it. Returns the digest of its manifest, which is the same for the same arguments.

    A tag is moved last, so that who pulls meanwhile gets the old component or the whole new one.
    Raises RegistryError, and InputError where the reference has another digest, a bundle is none,
    or there is more of anything than `pull` takes.
    """
    laid_out = layout.lay_out(wasm, imports=imports, exports=exports, manifest=manifest, created=created)
    subject = laid_out.descriptor
    encoded = [bundle.encode() for bundle in bundles]
    attached = [layout.lay_out_bundle(bundle, subject) for bundle in encoded]
    _check_push(registry, subject.digest, len(bundles))
    registry.upload(wasm, "the component", progress)
    registry.upload(laid_out.config, "its config")
    content = laid_out.manifest.as_bytes()
    registry.put_manifest(content, IMAGE_MANIFEST, str(subject.digest))
    if attached:
        registry.upload(EMPTY_CONTENT, "an empty config")
        for bundle in encoded:
            registry.upload(bundle, "a signature")
        registry.put_referrers(subject.digest, attached)
    if registry.reference.digest is None or registry.reference.tag:
        registry.put_manifest(content, IMAGE_MANIFEST, registry.reference.tag or "latest")
    return subject.digest


def pull(
    registry: RegistryClient,
    *,
    partial: Path,
    held: Callable[[Digest], bytes | None] = lambda _: None,
    progress: Progress | None = None,
) -> Pulled:
    """What the reference names, every byte of it verified against a digest, beginning with the reference's own if it
    has one. A download that breaks off leaves a file in the folder `partial`, which the next pull continues. What is
    here already, as `held` has it, is not fetched.

    Raises RegistryError (it cannot be had, or other bytes come), ArtifactError (it is not a component as the layout has
    it) and StateError (`partial` cannot be used).
    """
    fetched = registry.manifest()
    manifest = layout.read_manifest(fetched.content, fetched.media_type)
    config = layout.read_config(registry.blob(manifest.config, "its config"), manifest)
    layer = manifest.layers[0]
    wasm = held(layer.digest)
    if wasm is None or Digest.of(wasm) != layer.digest:
        wasm = registry.download(layer, partial, "the component", progress)
    return Pulled(
        wasm=wasm,
        bundles=tuple(_bundles(registry, fetched.digest)),
        digest=fetched.digest,
        layer=layer.digest,
        imports=config.imports,
        exports=config.exports,
        annotations=manifest.annotations,
    )


def _bundles(registry: RegistryClient, subject: Digest) -> Iterator[str]:
    """Those among the first that are said to be bundles, as many as are looked at. What is none is passed over, and so
    is one that the registry has no more: whoever may push could otherwise stop every pull. A bundle that is missing is
    missed where signatures are verified."""
    for described in islice(registry.referrers(subject, layout.BUNDLE), MAX_BUNDLES):
        try:
            found = registry.manifest(str(described.digest), most=_MAX_BUNDLE_MANIFEST_BYTES)
            yield registry.blob(layout.read_bundle_manifest(found.content, subject), "a signature").decode()
        except (ArtifactError, UnicodeDecodeError):
            continue
        except RegistryError as error:
            if error.status != 404:
                raise


def _check_push(registry: RegistryClient, digest: Digest, bundles: int) -> None:
    wanted = registry.reference.digest
    if wanted is not None and wanted != digest:
        raise InputError(f"what is pushed has the digest {digest}, not {wanted}", field="reference", hint="name a tag")
    if bundles > MAX_BUNDLES:
        raise InputError(f"an artifact has at most {MAX_BUNDLES} signatures")
