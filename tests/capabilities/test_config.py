"""`catalyst:host/config`: what the operator set."""

from __future__ import annotations

from typing import Any

import pytest

from host import Host, errors
from tests.probing import answers, probe


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"base_url": "https://api.test/v1", "n": 1.5, "deep": {"list": [None, True]}}, id="JSON values"),
        pytest.param({"ключ": "значение 🐈"}, id="any script"),
    ],
)
def test_a_guest_reads_what_the_operator_set(host: Host, config: dict[str, Any]) -> None:
    assert answers(probe(host, config=config), ["config.get"]) == [config]


def test_without_a_config_a_guest_reads_an_empty_object(host: Host) -> None:
    assert answers(probe(host), ["config.get"]) == [{}]


def test_what_is_set_after_loading_changes_nothing(host: Host) -> None:
    config = {"a": 1}
    catalyst = probe(host, config=config)
    config["a"] = 2
    assert answers(catalyst, ["config.get"]) == [{"a": 1}]


@pytest.mark.parametrize(
    "value", [pytest.param(float("nan"), id="NaN"), pytest.param({1, 2}, id="a set"), pytest.param(b"x", id="bytes")]
)
def test_a_config_that_is_no_json_is_refused_when_it_is_handed_over(host: Host, value: object) -> None:
    with pytest.raises(errors.InputError, match="config"):
        probe(host, config={"a": value})
