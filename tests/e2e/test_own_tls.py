"""A corporate server of OpenAI's API: an authority of its own, and a certificate of the client, by the policy alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from host import Catalyst, Host, Policy, TlsRule
from host.core.audit import Event
from host.errors import PolicyError
from host.fakes import FakeOpenAI
from tests.conftest import KEY
from tests.tls import Certificates, behind_tls
from tests.tls import certificates as certificates  # noqa: PLC0414 - the fixture

MODELS = {"operation": "models.list"}


class Events:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)


def loaded(host: Host, file: Path, at: str, **policy: object) -> Catalyst:
    return host.load(
        file,
        policy=Policy(allowed_domains=[at], allowed_private=["127.0.0.0/8", "::1"], **policy),  # type: ignore[arg-type]
        secrets={"OPENAI_API_KEY": KEY},
        config={"base_url": f"{at}/llm/openai/v1", "auth": "header:X-API-Key"},
    )


def test_a_server_with_an_authority_of_its_own_that_asks_for_a_certificate_is_reached(
    host: Host, openai_file: Path, certificates: Certificates
) -> None:
    context = certificates.server("localhost", asks_for_certificates=True)
    ca, certificate, key = (certificates.file(name) for name in ("ca.pem", "client.pem", "client.key"))
    with FakeOpenAI(shape="proxy") as fake, behind_tls(fake.url, context) as at:
        rule = TlsRule(ca_file=ca, client_certificate=certificate, client_key=key)
        catalyst = loaded(host, openai_file, at, tls={at: rule})
        assert catalyst.run(MODELS).ok
        begun = next(one for one in catalyst.run(MODELS).execution.decisions if one.kind == "run.started")
        assert begun.detail["tls"].keys() == {at}
        assert begun.detail["tls"][at].keys() == {"ca_file", "client_certificate"}
        assert catalyst.run(MODELS).ok
        without = loaded(host, openai_file, at, ca_file=ca)
        answer = without.run(MODELS)
    assert not answer.ok
    assert "client_certificate" in str(answer.error)
    assert key not in str(answer.error)


def test_the_sandbox_does_not_see_what_tls_is_spoken_with(
    host: Host, openai_file: Path, certificates: Certificates
) -> None:
    with FakeOpenAI(shape="proxy") as fake, behind_tls(fake.url, certificates.server("localhost")) as at:
        catalyst = loaded(host, openai_file, at, ca_file=certificates.file("ca.pem"))
        assert catalyst.run(MODELS).ok
        assert "ca.pem" not in str(fake.requests)


def test_a_file_that_is_missing_is_told_when_the_catalyst_is_loaded(host: Host, openai_file: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        loaded(host, openai_file, "https://localhost", ca_file="/nowhere/ca.pem")
    assert caught.value.field == "ca_file"
