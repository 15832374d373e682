"""Verification of an artifact in twelve steps, before it is installed and at every load.

It is a function of values: it uses no file, no network and no clock, so every attack is a call with other arguments.

As in TUF, a threshold of keys decides. A bundle that fails counts for nothing, and takes nothing from a bundle that
verifies. Otherwise anybody who can put a file beside an artifact, or attach one to it in a registry, could keep others
from using it. If too few bundles verify, the error is the one of the bundle that passed the most steps.

A namespace may require no signature. A false signature is refused there too, unless enough others verify.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import TYPE_CHECKING, Final

from semver import Version

from host.component.manifest import Manifest
from host.core.names import Digest, Reference
from host.errors import InputError, VerificationFailed
from host.trust.artifact import Artifact, admit
from host.trust.bundle import MAX_BUNDLES, Bundle

if TYPE_CHECKING:
    from host.trust.keys import PublicKey


def order(version: str) -> Version:
    """The sort key of a version (semver.org, 2.0.0, section 11). `version` has passed
    `host.core.names.check_version`."""
    return Version.parse(version)


def is_prerelease(version: str) -> bool:
    return order(version).prerelease is not None


_SEAL: Final = object()

_STEPS: Final = {
    3: "the manifest inside has the name and the version",
    4: "it is signed where its namespace requires it",
    5: "the signature is in a bundle that can be read",
    6: "the bundle is for these bytes",
    7: "the bundle's key is known",
    8: "the key is not revoked",
    9: "the key may sign for the namespace",
    10: "the signature is the key's, over these bytes",
    11: "enough keys signed",
    12: "it is not older than what was installed",
}

# Failures of a signature that is not false: it is by a key that is not trusted for the namespace.
_WITHOUT_WEIGHT: Final = (7, 9)


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key and the namespaces that it may sign for. A revoked key signs for none."""

    key: PublicKey
    namespaces: frozenset[str]
    revoked: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """The requirement of a namespace. `threshold` is the number of different keys that must sign; raises InputError
    below 1, even where no signature is required."""

    require_signature: bool = True
    threshold: int = 1

    def __post_init__(self) -> None:
        if self.threshold < 1:
            raise InputError("a threshold is at least 1", field="threshold")


_UNSIGNED_ALLOWED: Final = Rule(require_signature=False)


@dataclass(frozen=True, slots=True)
class Trust:
    """The operator's trusted keys, and the rules by namespace."""

    keys: Sequence[TrustedKey] = ()
    rules: Mapping[str, Rule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({one.key.id for one in self.keys}) < len(self.keys):
            raise InputError("a key is there twice: what is said of it in one place could differ in the other")

    def rule(self, namespace: str) -> Rule:
        """The namespace's own rule. The default is one signature, and none in `local`, the namespace of own builds."""
        return self.rules.get(namespace) or (_UNSIGNED_ALLOWED if namespace == "local" else Rule())

    def elsewhere(self) -> Trust:
        """The trust in artifacts from other machines: without a rule of its own, `local` requires a signature there."""
        return replace(self, rules={"local": Rule(), **self.rules})

    def named(self, hint: str) -> TrustedKey | None:
        """The key with this `hint`, or None."""
        return next((one for one in self.keys if one.key.hint == hint), None)


@dataclass(frozen=True, slots=True)
class VerifiedArtifact:
    """An artifact that passed, with the ids of the keys that signed it, in the order of their bundles; () for an
    artifact that needs no signature and has none. Only `verify` makes one."""

    artifact: Artifact
    signers: tuple[str, ...]
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("a VerifiedArtifact is made by verify")


def verify(
    wasm: bytes,
    bundles: Sequence[str],
    *,
    reference: Reference,
    trust: Trust,
    pinned: Digest | None = None,
    newest: str = "",
    older_allowed: bool = False,
) -> VerifiedArtifact:
    """Verifies that `wasm` is the artifact that `reference` names, and that `bundles` (the texts of Sigstore bundles)
    sign it as `trust` requires. `pinned` is the requested digest, or the one recorded at installation. `newest` is the
    highest version of the reference that was ever installed, or an empty text.

    Raises VerificationFailed, whose `step` is the number below; NotAComponent and ManifestError from step 2.
    """
    rule = trust.rule(reference.namespace)

    # 1. They are the requested or the installed bytes. This comes before anything reads them.
    # 2. They are a component, and the manifest inside it, if there is one, can be read.
    artifact = admit(wasm, pinned)

    # 3. The manifest has the name and version of the reference. A signature over the bytes is then for that name and
    #    version alone: an old or another artifact of the same signer does not pass for this one.
    version = _named(artifact.manifest, reference, rule)

    # 4. There is a signature where the namespace's rule requires one.
    if rule.require_signature and not bundles:
        raise _failed(
            4,
            f"it is not signed, and the namespace {reference.namespace!r} requires it",
            "its signature is the file beside it that ends in .sigstore.json; host sign makes one",
        )

    # 5 to 10. Each bundle verifies, or fails at one of these steps.
    signers, failures = _signers(artifact, bundles, reference.namespace, trust)

    # 11. As many different keys signed as the rule requires. Where it requires none, it is enough that no bundle is
    #     false.
    counted = failures if rule.require_signature else [one for one in failures if one.step not in _WITHOUT_WEIGHT]
    if len(signers) < rule.threshold and (rule.require_signature or counted):
        raise _too_few(signers, counted, rule)

    # 12. It is no older than the newest version that was ever installed, unless the caller allows it: a signature never
    #     expires, and says nothing about mistakes that were found since. Where no signature is required, anybody can
    #     make bytes of any version, so this step would prevent nothing.
    if rule.require_signature and newest and not older_allowed and not _reaches(version, newest):
        raise _failed(
            12,
            f"version {version or '(none)'} is older than {newest}, which was installed",
            "--allow-older installs it",
        )

    return VerifiedArtifact(artifact, signers, _SEAL)


def _signers(
    artifact: Artifact, bundles: Sequence[str], namespace: str, trust: Trust
) -> tuple[tuple[str, ...], list[VerificationFailed]]:
    """The ids of the keys whose bundles verify, each once, and the failures of the other bundles."""
    if len(bundles) > MAX_BUNDLES:
        raise _failed(5, f"there are {len(bundles)} signatures; at most {MAX_BUNDLES} are looked at", "remove some")
    signers: dict[str, None] = {}
    failures: list[VerificationFailed] = []
    for text in bundles:
        try:
            signers[_signer(artifact, text, namespace, trust)] = None
        except VerificationFailed as failure:
            failures.append(failure)
    return tuple(signers), failures


def _signer(artifact: Artifact, text: str, namespace: str, trust: Trust) -> str:
    """The id of the key that signs `artifact` in the bundle `text`. Raises VerificationFailed."""
    # 5. The bundle can be read, whole and in one way only.
    try:
        bundle = Bundle.parse(text)
    except InputError as error:
        raise _failed(5, error.message, error.hint) from None

    # 6. It is for these bytes, not for another version or for the bytes before a change. Step 10 would fail too, but
    #    could not name the reason.
    if bundle.digest != artifact.digest:
        raise _failed(
            6, f"it is for {bundle.digest}, and this is {artifact.digest}", "sign these bytes, or fetch both again"
        )

    # 7. The operator trusts its key. The hint is a claim; step 10 proves it.
    known = trust.named(bundle.hint)
    if known is None:
        raise _failed(7, f"no trusted key is {_key_id(bundle.hint)}", _trust_it("KEY.pem", namespace))

    # 8. The operator has not revoked it.
    if known.revoked:
        raise _failed(8, f"the key {known.key.id} was revoked", "have it signed with another key")

    # 9. It is trusted for the namespace.
    if namespace not in known.namespaces:
        raise _failed(9, f"the key {known.key.id} does not sign for {namespace!r}", _trust_it(known.key.id, namespace))

    # 10. The signature is that key's over these very bytes: not over their digest, nor over the bundle's claim of it.
    if not known.key.verifies(artifact.wasm, bundle.signature):
        raise _failed(10, f"the key {known.key.id} did not make this signature over these bytes", "fetch both again")

    return known.key.id


def _named(manifest: Manifest | None, reference: Reference, rule: Rule) -> str:
    """The version, if the manifest agrees with `reference`. Raises VerificationFailed at step 3."""
    said_id, said_version = (manifest.id, manifest.version) if manifest else ("", "")
    if rule.require_signature and not (said_id and said_version):
        raise _failed(
            3,
            "the manifest inside says no name and version, so a signature would not speak for them",
            "host build puts the folder's manifest.json inside, with id and version",
        )
    version = said_version or reference.version
    if (said_id or reference.subject, version) != (reference.subject, reference.version or version):
        raise _failed(
            3,
            f"the manifest inside is of {said_id or reference.subject} {said_version}".rstrip() + f", not {reference}",
            "ask for it under the name and version that it has",
        )
    return version


def _too_few(signers: Sequence[str], failures: Sequence[VerificationFailed], rule: Rule) -> VerificationFailed:
    if not signers:
        return max(failures, key=lambda one: one.step)
    others = "".join(f"; another: {one.message}" for one in failures)
    keys = f"{len(signers)} key{'s' * (len(signers) > 1)} of the {rule.threshold} that are needed"
    return _failed(11, f"it is signed by {keys}{others}", "host sign FILE --key NAME adds a signature")


def _reaches(version: str, newest: str) -> bool:
    """Whether `version` is at least `newest` (semver.org, 2.0.0, section 11). An empty version is not."""
    return bool(version) and order(version) >= order(newest)


def _failed(step: int, what: str, hint: str | None) -> VerificationFailed:
    return VerificationFailed(f"verification step {step} ({_STEPS[step]}): {what}", step=step, hint=hint)


def _key_id(hint: str) -> str:
    """The id of the key with this `hint`, as in `host trust list`; for another kind of hint, the hint itself."""
    try:
        digest = base64.b64decode(hint, validate=True)
    except ValueError:
        digest = b""
    return f"sha256:{digest.hex()}" if len(digest) == hashlib.sha256().digest_size else f"meant by {hint[:80]!r}"


def _trust_it(key: str, namespace: str) -> str:
    return f"if you trust it: host trust add {key} --namespace {namespace}"
