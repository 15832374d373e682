"""The configuration that a catalyst reads."""

from __future__ import annotations

import json

import pytest

from host.core.names import Reference
from host.errors import InputError
from host.store.audit_log.log import AuditLog
from host.store.policies import Config
from host.store.sql import select
from host.store.tables import audit

ALL = Reference.parse("c:local.openai")


@pytest.fixture
def config(audit_log: AuditLog) -> Config:
    return Config(audit_log)


def test_a_version_reads_its_own_keys_over_those_of_all(config: Config) -> None:
    config.update(ALL, {"base_url": "https://a.test/v1", "retries": 2})
    config.set(ALL.at("0.1.0"), "base_url", "https://b.test/v1")
    assert config.effective(ALL.at("0.1.0")) == {"base_url": "https://b.test/v1", "retries": 2}
    assert config.effective(ALL)["base_url"] == "https://a.test/v1"


@pytest.mark.parametrize("value", ["", "ünïcode \0", None, True, 1.5, [1, {"a": []}], {"b": None}], ids=repr)
def test_any_json_value_comes_back_as_it_was(config: Config, value: object) -> None:
    config.set(ALL, "key", value)
    assert config.effective(ALL) == {"key": value}


@pytest.mark.parametrize("key", ["", "1a", "a b", "a\0", "a\n", "ä", "x" * 129], ids=repr)
def test_what_is_no_key(config: Config, key: str) -> None:
    with pytest.raises(InputError):
        config.set(ALL, key, 1)
    assert config.all() == {}


def test_the_record_has_the_keys_and_not_the_values(config: Config, audit_log: AuditLog) -> None:
    config.update(ALL, {"organization": "acme-7", "base_url": "https://a.test"})
    with audit_log.database.reading() as connection:
        kind, detail = connection.execute(select(audit.c.kind, audit.c.detail)).one()
    assert kind == "config.changed"
    assert json.loads(detail) == {"reference": "c:local.openai", "set": ["base_url", "organization"]}
