"""The line that adds to a kept policy: pasted into a shell, it drops nothing of what was there."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.core.names import Reference, SecretName
from host.policy.document import DEFAULT, METHODS, Effective, Policy, SecretGrant
from host.policy.urls import DomainPattern

OPENAI = Reference.parse("c:local.openai:0.1.0")


def kept(scope: str = DEFAULT, **policy: Any) -> Effective:
    origins = {one.name: scope if one.name in policy else DEFAULT for one in fields(Policy)}
    return Effective(OPENAI, Policy(**policy), origins)


def test_what_was_never_set_is_set_for_all_versions() -> None:
    line = kept().adding("allowed_domains", "api.openai.com")
    assert line == """host policy set c:local.openai allowed_domains '["api.openai.com"]'"""


@pytest.mark.parametrize("scope", ["c:local.openai", "c:local.openai:0.1.0"])
def test_what_was_set_is_set_where_it_was(scope: str) -> None:
    line = kept(scope, allowed_domains=["a.test"]).adding("allowed_domains", "b.test")
    assert line == f"""host policy set {scope} allowed_domains '["a.test", "b.test"]'"""


@given(st.lists(st.sampled_from(["a.test", "*.b.test", "http://[::1]:8080", "c.test:8443"]), unique=True))
def test_nothing_that_was_in_the_list_is_dropped(domains: list[str]) -> None:
    *command, value = shlex.split(kept("c:local.openai", allowed_domains=domains).adding("allowed_domains", "new.test"))
    assert command == ["host", "policy", "set", "c:local.openai", "allowed_domains"]
    assert json.loads(value) == [*domains, "new.test"]


def test_a_list_too_long_for_a_line_is_for_an_editor() -> None:
    many = [f"a{number}.test" for number in range(20)]
    assert kept("c:local.openai", allowed_domains=many).adding("allowed_domains", "b.test") == (
        "host policy edit c:local.openai"
    )


def test_a_default_that_is_not_empty_is_kept_as_well() -> None:
    line = kept().adding("allowed_methods", "TRACE")
    assert json.loads(shlex.split(line)[-1]) == [*METHODS, "TRACE"]


@pytest.mark.parametrize(
    ("more", "options"),
    [
        pytest.param({}, "--in header", id="in a header"),
        pytest.param({"places": frozenset({"body", "header"})}, "--in header --in body", id="in several places"),
        pytest.param({"reveal": True}, "--in header --reveal", id="revealed"),
    ],
)
def test_a_secret_keeps_what_it_was_granted_with(more: dict[str, Any], options: str) -> None:
    secret = SecretGrant(SecretName.parse("KEY"), (DomainPattern.parse("*.a.test"),), **more)
    assert kept().granting(secret, "b.test") == (
        f"host secret grant c:local.openai:0.1.0 KEY --allow-domain '*.a.test' --allow-domain b.test {options}"
    )


def test_a_limit_is_set_where_it_was_set_before() -> None:
    assert kept().setting("idle_timeout", "2m") == "host policy set c:local.openai idle_timeout 2m"
    line = kept(str(OPENAI), idle_timeout="1m").setting("idle_timeout", "2m")
    assert line == "host policy set c:local.openai:0.1.0 idle_timeout 2m"
