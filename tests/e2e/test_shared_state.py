"""Two machines with one PostgreSQL database and one master key: what one keeps, the other runs."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Iterator

import pytest

from host.component.manifest import embed
from host.fakes import FakeOpenAI
from tests.conftest import KEY, wat
from tests.e2e.conftest import Machine
from tests.store.conftest import postgres  # noqa: F401 - a fixture
from tests.store.postgres import Postgres


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:  # noqa: F811 - the fixture
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def machines(machine: Callable[[str], Machine], url: str) -> tuple[Machine, Machine]:
    shared = {"HOST_DATABASE": url, "HOST_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode()}
    pair = machine("alice"), machine("bob")
    for one in pair:
        one.environment |= shared
    return pair


def works(machine: Machine, line: str) -> str:
    done = machine.types(line)
    assert done.status == 0, f"{line}\n{done.err}"
    return done.out


def test_what_one_machine_keeps_the_other_runs(
    machines: tuple[Machine, Machine], openai_wasm: bytes, fake: FakeOpenAI
) -> None:
    alice, bob = machines
    (alice.home / "catalyst.wasm").write_bytes(openai_wasm)
    works(alice, "host register")
    works(bob, f"host secret set OPENAI_API_KEY={KEY}")
    works(alice, "host secret grant c:local.openai OPENAI_API_KEY")
    works(bob, """host policy set c:local.openai allowed_domains '["api.openai.com"]'""")
    works(bob, f"""host policy set c:local.openai upstreams '{json.dumps({"https://api.openai.com": fake.url})}'""")
    for one in (alice, bob):
        answer = json.loads(works(one, """host run c:local.openai --input '{"operation": "models.list"}'"""))
        assert answer["status"] == 200
        assert not (one.state / "state.db").exists()
    assert {request["headers"]["authorization"] for request in fake.requests} == {f"Bearer {KEY}"}
    for one in (alice, bob):
        assert len(json.loads(works(one, "host runs list --json"))) == 2
        works(one, "host audit verify")

    # Bytes that were changed on one machine do not run there, and do on the other.
    (file,) = (bob.state / "components").iterdir()
    file.write_bytes(embed(wat("hostile/returns_not_json"), b'{"id": "openai", "version": "0.1.0"}'))
    refused = bob.types("host run c:local.openai --input '{}'")
    assert (refused.status, "verification step 1" in refused.err) == (5, True)
    works(alice, """host run c:local.openai --input '{"operation": "models.list"}'""")

    # Without the key there is nothing to be had of it.
    without = alice.types("host secret get OPENAI_API_KEY", env={"HOST_MASTER_KEY": ""})
    assert without.status == 6
    assert KEY not in without.out + without.err
