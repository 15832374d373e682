"""Shared by the tests of trust: components with only a manifest, and keys for one test run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host.component.wasm import COMPONENT_PREAMBLE, MANIFEST_SECTION, append_section
from host.core.names import Reference
from host.trust.keys import SigningKey
from host.trust.verification import Trust, TrustedKey

HOSTILE = Path(__file__).parent / "hostile"


def component(**manifest: Any) -> bytes:
    """The smallest component, with `manifest` embedded."""
    return append_section(COMPONENT_PREAMBLE, MANIFEST_SECTION, json.dumps(manifest).encode())


def tool(version: str = "1.0.0", namespace: str = "acme") -> bytes:
    return component(id=f"catalyst:{namespace}.tool", version=version)


def reference(version: str = "1.0.0", namespace: str = "acme") -> Reference:
    return Reference("catalyst", namespace, "tool", version)


def trusting(*keys: SigningKey, namespace: str = "acme", revoked: bool = False, **rules: Any) -> Trust:
    """A Trust with `keys` for one namespace, and `rules` by namespace."""
    return Trust([TrustedKey(key.public, frozenset({namespace}), revoked) for key in keys], rules)


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture(scope="session")
def other_key() -> SigningKey:
    return SigningKey.generate("ed25519")
