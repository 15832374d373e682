"""From one machine to another: signed, pushed to a real registry, pulled by who trusts the key, and by nobody else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from host.component.manifest import embed
from host.fakes import FakeOpenAI
from tests.conftest import KEY, wat
from tests.e2e.conftest import Machine


def tool(machine: Machine, version: str = "1.0.0", namespace: str = "acme", **fields: object) -> None:
    """`tool.wasm` in the machine's home."""
    manifest = {"id": f"catalyst:{namespace}.tool", "version": version, **fields}
    content = embed(wat("hostile/returns_not_json"), json.dumps(manifest).encode())
    (machine.home / "tool.wasm").write_bytes(content)


def works(machine: Machine, *lines: str) -> str:
    """What the last of `lines` prints; each ends in 0."""
    out = ""
    for line in lines:
        done = machine.types(line)
        assert done.status == 0, f"{line}\n{done.err}"
        out = done.out
    return out


def fails(machine: Machine, line: str, status: int, said: str) -> None:
    done = machine.types(line)
    assert (done.status, said in done.err) == (status, True), f"{line}\n{done.status}\n{done.err}"


@pytest.fixture
def alice(machine: Callable[[str], Machine]) -> Machine:
    """Who makes things, and trusts herself with `acme`."""
    one = machine("alice")
    works(
        one, "host signing-key generate acme > acme.pem", "host trust add acme.pem --namespace acme --namespace local"
    )
    return one


@pytest.fixture
def bob(machine: Callable[[str], Machine], alice: Machine) -> Machine:
    """Who has her public key, and does not trust it yet."""
    one = machine("bob")
    shutil.copy(alice.home / "acme.pem", one.home)
    return one


@pytest.fixture
def place(registry: str) -> str:
    return f"oci://{registry}/acme/{uuid4().hex}"


def publish(alice: Machine, place: str, tag: str = "1.0.0") -> str:
    """The reference by digest."""
    version = json.loads(works(alice, "host sign tool.wasm", "host register tool.wasm --json"))[0]["reference"]
    return works(alice, f"host push {version} {place}:{tag}").strip()


def test_the_openai_catalyst_travels_and_runs_where_its_key_is_trusted_and_only_there(
    alice: Machine, bob: Machine, place: str, openai_file: Path, fake: FakeOpenAI
) -> None:
    shutil.copy(openai_file, alice.home / "openai.wasm")
    works(alice, "host sign openai.wasm", "host register openai.wasm", f"host push c:local.openai {place}:0.1.0")

    fails(bob, f"host pull {place}:0.1.0", 5, "verification step 7")
    assert works(bob, "host list --json") == "[]\n"

    works(bob, "host trust add acme.pem --namespace local", f"host pull {place}:0.1.0")
    upstreams = json.dumps({"https://api.openai.com": fake.url})
    works(
        bob,
        f"host secret set OPENAI_API_KEY={KEY}",
        "host secret grant c:local.openai OPENAI_API_KEY",
        """host policy set c:local.openai allowed_domains '["api.openai.com"]'""",
        f"host policy set c:local.openai upstreams '{upstreams}'",
    )
    answer = json.loads(works(bob, """host run c:local.openai --input '{"operation": "models.list"}'"""))
    assert answer["status"] == 200
    assert (alice.home / "openai.wasm").read_bytes() == next((bob.state / "components").iterdir()).read_bytes()


def test_what_is_run_by_its_place_is_pulled_first(alice: Machine, bob: Machine, place: str) -> None:
    tool(alice)
    by_digest = publish(alice, place)
    assert re.fullmatch(re.escape(place) + "@sha256:[0-9a-f]{64}", by_digest)
    fails(bob, f"host run {by_digest} --input '{{}}'", 5, "verification step 7")
    works(bob, "host trust add acme.pem --namespace acme")
    record = json.loads(works(bob, f"host run {by_digest} --input '{{}}' --json"))["execution"]
    assert record["reference"] == "c:acme.tool:1.0.0"
    assert works(bob, "host run c:acme.tool --input '{}'")


def test_a_key_for_another_namespace_is_no_key(alice: Machine, bob: Machine, place: str) -> None:
    tool(alice)
    publish(alice, place)
    works(bob, "host trust add acme.pem --namespace globex")
    fails(bob, f"host pull {place}:1.0.0", 5, "verification step 9")


def test_what_was_not_signed_is_not_pulled_even_as_local(alice: Machine, bob: Machine, place: str) -> None:
    """In `local` this machine's own files need no signature. What a registry sends would take their place."""
    tool(alice, namespace="local")
    works(alice, "host register tool.wasm", f"host push c:local.tool {place}:1.0.0")
    fails(bob, f"host pull {place}:1.0.0", 5, "verification step 4")


def test_a_tag_that_was_moved_back_does_not_bring_the_old_version(alice: Machine, bob: Machine, place: str) -> None:
    works(bob, "host trust add acme.pem --namespace acme")
    tool(alice, "1.0.0")
    old = publish(alice, place, "stable")
    tool(alice, "1.1.0")
    publish(alice, place, "stable")
    works(bob, f"host pull {place}:stable", "host unregister c:acme.tool --yes")
    works(alice, f"host push c:acme.tool:1.0.0 {place}:stable")
    fails(bob, f"host pull {place}:stable", 5, "verification step 12")
    assert "c:acme.tool:1.0.0" in works(bob, f"host pull {old}")  # which asks for these very bytes
    fails(bob, "host run c:acme.tool --input '{}'", 5, "verification step 12")
    works(bob, "host run c:acme.tool:1.0.0 --input '{}'")


def test_a_key_that_is_revoked_stops_what_is_installed(alice: Machine, bob: Machine, place: str) -> None:
    tool(alice)
    publish(alice, place)
    key = works(bob, "host trust add acme.pem --namespace acme").strip()
    works(bob, f"host pull {place}:1.0.0", "host run c:acme.tool --input '{}'", f"host trust revoke {key} --yes")
    fails(bob, "host run c:acme.tool --input '{}'", 5, "verification step 8")


def test_new_bytes_of_another_namespace_wait_for_approval_however_well_they_are_signed(
    alice: Machine, bob: Machine, place: str
) -> None:
    works(bob, "host trust add acme.pem --namespace acme")
    tool(alice)
    publish(alice, place)
    works(
        bob, f"host pull {place}:1.0.0", "host policy set c:acme.tool timeout 5s", "host run c:acme.tool --input '{}'"
    )
    tool(alice, "1.1.0")
    publish(alice, place, "1.1.0")
    works(bob, f"host pull {place}:1.1.0")
    fails(bob, "host run c:acme.tool:1.1.0 --input '{}'", 5, "host approve c:acme.tool:1.1.0")
    works(bob, "host run c:acme.tool --input '{}'", "host approve c:acme.tool --yes")  # of 1.0.0, and then of 1.1.0
    works(bob, "host run c:acme.tool --input '{}'")


def test_two_signers_where_two_are_asked_for(
    alice: Machine, bob: Machine, machine: Callable[[str], Machine], place: str
) -> None:
    carol = machine("carol")
    works(carol, "host signing-key generate carol > carol.pem")
    shutil.copy(carol.home / "carol.pem", bob.home)
    works(bob, "host trust add acme.pem --namespace acme", "host trust add carol.pem --namespace acme")
    works(bob, "host trust require acme --threshold 2")
    tool(alice)
    works(alice, "host sign tool.wasm")
    for file in alice.home.glob("tool.wasm*"):
        shutil.copy(file, bob.home)
        shutil.copy(file, carol.home)
    fails(bob, "host register tool.wasm", 5, "verification step 11")
    works(carol, "host sign tool.wasm")
    for file in carol.home.glob("tool.wasm*.sigstore.json"):
        shutil.copy(file, bob.home)
    works(bob, "host register tool.wasm", "host run c:acme.tool --input '{}'")
    assert works(bob, "host verify c:acme.tool").count("signed by") == 2


def test_what_came_and_went_is_on_record(alice: Machine, bob: Machine, place: str) -> None:
    works(bob, "host trust add acme.pem --namespace acme")
    tool(alice)
    by_digest = publish(alice, place)
    works(bob, f"host pull {by_digest}")
    for machine, kind in ((alice, "component.pushed"), (bob, "component.pulled")):
        record = json.loads(works(machine, f"host audit list --kind {kind} --json"))
        assert [one["detail"]["manifest"] for one in record] == [by_digest.rpartition("@")[2]]
        works(machine, "host audit verify")
