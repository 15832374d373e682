"""What a manifest asks for, as bounds of the operator's grant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from host.errors import InputError, ManifestError, PolicyError
from host.jsontext import Json
from host.manifest import Manifest
from host.names import SecretName
from host.policy.domains import DomainPattern
from host.policy.urls import Origin, UrlError

_CONFIG_DOMAIN = re.compile(r"\{config\.([A-Za-z_][A-Za-z0-9_]*)\}\Z")


@dataclass(frozen=True, slots=True)
class Asked:
    """None stands for a manifest that does not say, or for none at all: then it sets no bound."""

    domains: tuple[DomainPattern, ...] | None = None
    secrets: frozenset[SecretName] | None = None
    optional_secrets: frozenset[SecretName] = frozenset()


def asked_by(manifest: Manifest | None, config: Mapping[str, Json]) -> Asked:
    """The bounds of `manifest`, with `{config.KEY}` filled from `config` or the manifest's defaults. Raises
    ManifestError, or InputError where the config value that names a domain is no URL."""
    if manifest is None:
        return Asked()
    optional = frozenset(SecretName.parse(secret.name) for secret in manifest.secrets if not secret.required)
    secrets = frozenset(SecretName.parse(secret.name) for secret in manifest.secrets)
    if manifest.domains is None:
        return Asked(None, secrets, optional)
    known = {**manifest.defaults, **config}
    found = dict.fromkeys(domain for text in manifest.domains if (domain := _domain(text, known)) is not None)
    return Asked(tuple(found), secrets, optional)


def _domain(text: str, config: Mapping[str, Json]) -> DomainPattern | None:
    match = _CONFIG_DOMAIN.match(text)
    if match is None:
        try:
            return DomainPattern.parse(text)
        except PolicyError as error:
            raise ManifestError(f"the manifest: domains: {error}") from None
    value = config.get(match[1])
    return None if value is None else _domain_of(match[1], value)


def _domain_of(key: str, value: Json) -> DomainPattern:
    scheme, _, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
    try:
        origin = Origin.parse(f"{scheme}://{rest.partition('/')[0]}")
    except UrlError as error:
        raise InputError(f"the config value {key} is not a URL: {error.reason}", field=key) from None
    return DomainPattern(origin.scheme, origin.host, origin.port)
