"""What a manifest asks for, as bounds of the grant."""

from __future__ import annotations

import json
from typing import Any

import pytest

from host.component.manifest import Manifest
from host.core.names import SecretName
from host.errors import InputError, ManifestError
from host.policy.permissions import Requested, requested_by


def asked(config: dict[str, Any] | None = None, **manifest: Any) -> Requested:
    return requested_by(Manifest.parse(json.dumps(manifest)), config or {})


def shown(bounds: Requested) -> list[str] | None:
    return None if bounds.domains is None else [str(domain) for domain in bounds.domains]


def test_without_a_manifest_there_is_no_bound() -> None:
    assert requested_by(None, {}) == Requested(None, None)


def test_a_manifest_without_domains_does_not_bound_them_and_without_secrets_asks_for_none() -> None:
    bounds = asked()
    assert bounds.domains is None
    assert bounds.secrets == frozenset()


@pytest.mark.parametrize(
    ("domains", "config", "expected"),
    [
        pytest.param([], {}, [], id="an empty list asks for nothing"),
        pytest.param(["a.test", "*.b.test"], {}, ["a.test", "*.b.test"], id="domains and wildcards"),
        pytest.param(["{config.url}"], {"url": "https://c.test/v1"}, ["c.test"], id="the host of a config value"),
        pytest.param(["{config.url}"], {"url": "http://c.test:80/"}, ["http://c.test"], id="with its scheme"),
        pytest.param(["{config.url}"], {"url": "https://c.test:8443"}, ["c.test:8443"], id="with its port"),
        pytest.param(["{config.url}"], {"url": "http://[::1]:5/"}, ["http://[::1]:5"], id="an IPv6 address"),
        pytest.param(["{config.url}"], {}, [], id="a value that is not set asks for nothing"),
        pytest.param(["{config.url}"], {"url": None}, [], id="null is not set"),
        pytest.param(["a.test", "{config.url}"], {"url": "https://a.test"}, ["a.test"], id="no domain twice"),
    ],
)
def test_domains(domains: list[str], config: dict[str, Any], expected: list[str]) -> None:
    assert shown(asked(config, domains=domains)) == expected


def test_the_manifests_default_stands_where_the_config_is_silent() -> None:
    manifest = {"domains": ["{config.url}"], "defaults": {"url": "https://default.test/v1"}}
    assert shown(asked(**manifest)) == ["default.test"]
    assert shown(asked({"url": "https://set.test"}, **manifest)) == ["set.test"]


@pytest.mark.parametrize(
    "domain", ["*", "*.com", "{config.}", "{config.a.b}", "{secrets.KEY}", "{config.url}.evil.test", "https://a.test/x"]
)
def test_a_domain_that_is_none_is_the_manifests_mistake(domain: str) -> None:
    with pytest.raises(ManifestError, match="domains"):
        asked({"url": "https://a.test"}, domains=[domain])


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("a.test", id="no scheme"),
        pytest.param("https://", id="no host"),
        pytest.param("https://user@evil.test/", id="userinfo"),
        pytest.param("https://a.test\\@evil.test/", id="a backslash"),
        pytest.param("file:///etc/passwd", id="another scheme"),
        pytest.param(5, id="a number"),
        pytest.param(["https://a.test"], id="a list"),
    ],
)
def test_a_config_value_that_is_no_url_is_the_callers_mistake_and_names_the_key(value: object) -> None:
    with pytest.raises(InputError) as error:
        asked({"url": value}, domains=["{config.url}"])
    assert error.value.field == "url"


def test_secrets_are_asked_for_by_name_and_may_be_optional() -> None:
    bounds = asked(secrets=["KEY", {"name": "EXTRA", "required": False}])
    key, extra = SecretName.parse("KEY"), SecretName.parse("EXTRA")
    assert bounds.secrets == {key, extra}
    assert bounds.optional_secrets == {extra}
