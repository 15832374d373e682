"""Pushes and pulls whole artifacts: a component with its signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

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
class PulledArtifact:
    """A component from a registry.

    `wasm` has the digest `layer`, in the manifest with the digest `digest`. The digests prove that the bytes are
    unchanged, not who made them. `bundles` are signatures in JSON, not yet verified. `imports`, `exports` and
    `annotations` are the publisher's claims.
    """

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
    progress: Progress | None = None,
) -> Digest:
    """Stores a component under the reference's tag (default `latest`), with its signatures `bundles` in JSON.

    Returns the digest of its manifest, which is the same for the same arguments. Moves the tag last, so that a
    concurrent pull gets the old component or the whole new one. Raises RegistryError; InputError if the reference has
    another digest, if a bundle is not one, and for more of anything than `pull` accepts.
    """
    laid_out = layout.lay_out(wasm, imports=imports, exports=exports, manifest=manifest)
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
    held: Callable[[Digest], bytes | None] = lambda _: None,
    progress: Progress | None = None,
) -> PulledArtifact:
    """Returns the artifact under the reference, every byte verified against a digest.

    The chain of digests starts with the reference's own, if it has one. `held` returns a component that is here
    already, which is then not downloaded. Raises RegistryError if a part is missing or has other bytes, and
    ArtifactError if it is not a component in the layout.
    """
    fetched = registry.manifest()
    manifest = layout.read_manifest(fetched.content, fetched.media_type)
    config = layout.read_config(registry.blob(manifest.config, "its config"), manifest)
    layer = manifest.layers[0]
    wasm = held(layer.digest)
    if wasm is None or Digest.of(wasm) != layer.digest:
        wasm = registry.download(layer, "the component", progress)
    return PulledArtifact(
        wasm=wasm,
        bundles=tuple(_bundles(registry, fetched.digest)),
        digest=fetched.digest,
        layer=layer.digest,
        imports=config.imports,
        exports=config.exports,
        annotations=manifest.annotations,
    )


def _bundles(registry: RegistryClient, subject: Digest) -> Iterator[str]:
    """Yields the bundles among the first MAX_BUNDLES referrers.

    Skips referrers that are no bundles or that the registry no longer has: otherwise everyone with push access could
    block every pull. The verification of signatures notices a missing bundle.
    """
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
        message = f"the pushed component has the digest {digest}, not {wanted}"
        raise InputError(message, field="reference", hint="name a tag")
    if bundles > MAX_BUNDLES:
        raise InputError(f"an artifact has at most {MAX_BUNDLES} signatures")
