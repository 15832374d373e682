"""How a server is set up: every form of its file, and what is said of mistakes in it."""

from __future__ import annotations

import json
import pickle
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from host.core.names import Reference
from host.core.quantities import Quota
from host.errors import InputError
from host.server.settings import Budget, ServerSettings

OPENAI = Reference.parse("c:local.openai")
DOCUMENT: dict[str, Any] = {
    "default": "c:local.openai",
    "prefix_map": {"gpt": "c:local.openai:0.1.0"},
    "aliases": {"fast": "gpt-4o-mini"},
    "allowed_hosts": ["api.example.com"],
    "cors_origins": ["https://app.example.com"],
    "trusted_proxies": ["10.0.0.0/8"],
    "max_body_size": "1MB",
    "limits": "redis://:hunter2@cache.internal/0",
    "budgets": {"c:local.openai:0.1.0": {"requests": "100/1m", "tokens": "5M/1d"}},
}
TOML = """
default = "c:local.openai"
allowed_hosts = ["api.example.com"]
cors_origins = ["https://app.example.com"]
trusted_proxies = ["10.0.0.0/8"]
max_body_size = "1MB"
limits = "redis://:hunter2@cache.internal/0"
[prefix_map]
gpt = "c:local.openai:0.1.0"
[aliases]
fast = "gpt-4o-mini"
[budgets."c:local.openai:0.1.0"]
requests = "100/1m"
tokens = "5M/1d"
"""
YAML = """
default: c:local.openai
prefix_map:
  gpt: c:local.openai:0.1.0
aliases: {fast: gpt-4o-mini}
allowed_hosts: [api.example.com]
cors_origins: [https://app.example.com]
trusted_proxies: [10.0.0.0/8]
max_body_size: 1MB
limits: redis://:hunter2@cache.internal/0
budgets:
  c:local.openai:0.1.0: {requests: 100/1m, tokens: 5M/1d}
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("server.toml", TOML, id="TOML"),
        pytest.param("server", TOML, id="TOML by another name"),
        pytest.param("server.yml", YAML, id="YAML, as the router of the brief is written"),
        pytest.param("server.json", json.dumps(DOCUMENT), id="JSON"),
    ],
)
def test_a_file_in_each_form_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    settings = ServerSettings.read(file)
    assert settings == ServerSettings.from_document(DOCUMENT)
    assert settings.routing.of_model("gpt-4o").reference == OPENAI.at("0.1.0")
    assert settings.routing.of_rest() == OPENAI
    assert settings.budgets == {OPENAI: Budget(Quota.parse("100/1m"), Quota.parse("5M/1d"))}
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"),)
    assert settings.max_body_bytes == 1_000_000


def failover(**target: Any) -> dict[str, Any]:
    return {"targets": [{"catalyst": "c:local.openai", **target}]}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        pytest.param({"prefixes": {}}, "prefixes", id="a field that there is not"),
        pytest.param({"default": "openai"}, "default", id="a default that is no reference"),
        pytest.param({"prefix_map": {"gpt": "nobody"}}, "prefix_map.gpt", id="a catalyst that is no reference"),
        pytest.param({"prefix_map": ["gpt"]}, "prefix_map", id="a table that is none"),
        pytest.param({"aliases": {"a": 1}}, "aliases.a", id="a name that is none"),
        pytest.param({"cors_origins": ["app.example.com"]}, "cors_origins", id="an origin without a scheme"),
        pytest.param({"cors_origins": ["https://app.example.com/"]}, "cors_origins", id="an origin with a path"),
        pytest.param({"trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies", id="a network with host bits"),
        pytest.param({"max_body_size": "big"}, "max_body_size", id="a size that is none"),
        pytest.param(
            {"budgets": {"c:a.b": {"requests": "lots"}}}, "budgets.c:a.b.requests", id="a budget that is none"
        ),
        pytest.param({"budgets": {"c:a.b": {"calls": "1/1m"}}}, "budgets.c:a.b.calls", id="a budget of nothing"),
        pytest.param({"failover": {"m": {"targets": []}}}, "failover.m", id="no targets"),
        pytest.param({"failover": {"m": {"targets": [{}]}}}, "failover.m.targets.0.catalyst", id="a target of nothing"),
        pytest.param({"failover": {"m": failover(weight=0)}}, "failover.m.targets.0", id="a weight of nothing"),
        pytest.param({"failover": {"m": failover(weight=-1)}}, "failover.m.targets.0", id="a weight below nothing"),
        pytest.param({"failover": {"m": failover(weight=10**30)}}, "failover.m.targets.0", id="a weight without end"),
        pytest.param({"failover": {"m": failover(weights=1)}}, "failover.m.targets.0.weights", id="a target's slip"),
        pytest.param({"failover": {"m": {**failover(), "on": ["4xx"]}}}, "failover.m.on", id="on mistakes"),
        pytest.param({"failover": {"*": failover()}}, "failover.*", id="targets for whatever is asked"),
        pytest.param({"failover": {"a*b": failover()}}, "failover.a*b", id="a * within a name"),
        pytest.param({"failover": {"m": failover(), "n": failover(model="a")}, "aliases": {"a": "m"}}, "failover.n",
                     id="a loop of an alias and a target"),
        pytest.param({"health_checks": "1ms"}, "health_checks", id="checks without a pause"),
        pytest.param({"health_checks": "often"}, "health_checks", id="a pause that is none"),
        pytest.param([], None, id="no table at all"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(document: Any, field: str | None) -> None:
    with pytest.raises(InputError) as raised:
        ServerSettings.from_document(document)
    assert raised.value.field == field
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        pytest.param({"alias": {}}, "did you mean aliases? one of default, prefix_map, aliases", id="a setting"),
        pytest.param(
            {"budgets": {"c:a.b": {"token": "1/1m"}}}, "did you mean tokens? one of requests, tokens", id="a budget"
        ),
    ],
)
def test_what_there_is_instead_is_said(document: Any, hint: str) -> None:
    with pytest.raises(InputError, match="there is no such setting") as raised:
        ServerSettings.from_document(document)
    assert (raised.value.hint or "").startswith(hint)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.toml", "a = "), ("a.yml", "a: ["), ("a.json", "{"), ("a.toml", "\xff")],
)
def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError):
        ServerSettings.read(file)


def test_the_form_of_a_file_is_by_its_name_and_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "server.conf"
    file.write_text(YAML)
    with pytest.raises(InputError, match="not TOML") as raised:
        ServerSettings.read(file)
    assert ".yaml" in (raised.value.hint or "")


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        ServerSettings.read(tmp_path / "nothing.toml")


def test_options_add_to_a_file_and_stand_before_it() -> None:
    settings = ServerSettings.from_document(DOCUMENT).with_routes(
        routes={"claude": "c:local.claude", "gpt": "c:local.other"}, aliases={"slow": "gpt-5"}, default="c:local.rest"
    )
    assert {prefix: str(one) for prefix, one in settings.routing.prefix_map.items()} == {
        "gpt": "c:local.other",
        "claude": "c:local.claude",
    }
    assert settings.routing.aliases == {"fast": "gpt-4o-mini", "slow": "gpt-5"}
    assert str(settings.routing.default) == "c:local.rest"


def test_settings_travel_to_a_worker_and_their_password_not_into_a_log() -> None:
    settings = ServerSettings.from_document(DOCUMENT)
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert "hunter2" not in repr(settings)
