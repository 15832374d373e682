"""What is kept, from Python: `Host.load` by reference, and installing."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

from host import Event, Host, Policy, Reference, Secret, Workspace, errors
from host.component.manifest import embed
from host.core.limits import CEILING
from host.core.names import Digest, SecretName
from host.fakes import FakeOpenAI
from host.oci import transfer
from host.oci.transfer import PulledArtifact
from host.runtime.loader import Loader
from host.secrets.value import OPERATOR, SecretValue
from host.store.audit_log.records import run, runs
from host.store.sql import select
from host.store.tables import audit
from host.trust.bundle import sign, speaking_of
from host.trust.keys import SigningKey
from tests.conftest import CACHE, GUESTS, KEY, wat
from tests.store.conftest import (  # noqa: F401 - fixtures
    _nothing_from_outside,
    database_url,
    kind,
    migrated,
    postgres,
    state_dir,
    workspace,
)
from tests.tls import Certificates, behind_tls, certificates  # noqa: F401 - the fixture

OPENAI = Reference.parse("c:local.openai")
MODELS = {"operation": "models.list"}


@pytest.fixture(scope="module")
def loader() -> Loader:
    """With the tests' own cache and its key."""
    return Loader(CACHE / "host", CACHE / "state")


@pytest.fixture
def kept(workspace: Workspace, loader: Loader) -> Iterator[Host]:  # noqa: F811 - the fixture
    with Host(workspace=workspace, loader=Loader(CACHE / "host", CACHE / "state")) as one:
        yield one


def tool(**fields: Any) -> bytes:
    manifest = {"id": "catalyst:local.tool", "version": "0.1.0", **fields}
    return embed(wat("hostile/returns_not_json"), json.dumps(manifest).encode())


@pytest.fixture
def install(workspace: Workspace, loader: Loader) -> Callable[..., Any]:  # noqa: F811 - the fixture
    def installed(wasm: bytes, *bundles: str, source: str = "/tool.wasm", **more: Any) -> Any:
        return workspace.install(wasm, loader, bundles=bundles, source=source, **more)

    return installed


@pytest.fixture
def openai(workspace: Workspace, install: Any, openai_wasm: bytes, fake: FakeOpenAI) -> Workspace:  # noqa: F811 - the fixture
    """The OpenAI catalyst, installed, with a policy that sends it to the fake."""
    install(openai_wasm)
    workspace.policies.update(
        OPENAI, {"allowed_domains": ["api.openai.com"], "upstreams": {"https://api.openai.com": fake.url}}
    )
    return workspace


def test_a_catalyst_is_loaded_by_its_reference_with_what_is_kept_for_it(
    openai: Workspace, kept: Host, fake: FakeOpenAI
) -> None:
    openai.vault.set(OPERATOR, SecretName("OPENAI_API_KEY"), SecretValue(KEY))
    openai.grants.grant(OPENAI, SecretName("OPENAI_API_KEY"))
    catalyst = kept.load("c:local.openai")
    assert catalyst.reference == "c:local.openai:0.1.0"
    assert catalyst.run(MODELS).ok
    assert fake.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"


def test_values_that_are_handed_over_come_before_kept_ones(openai: Workspace, kept: Host, fake: FakeOpenAI) -> None:
    openai.vault.set(OPERATOR, SecretName("OPENAI_API_KEY"), SecretValue("sk-of-the-store-0123456789"))
    openai.grants.grant(OPENAI, SecretName("OPENAI_API_KEY"))
    assert kept.load(OPENAI, secrets={"OPENAI_API_KEY": KEY}).run(MODELS).ok
    assert fake.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"


def test_where_a_kept_grant_binds_a_secret_a_bare_value_goes_there_alone(
    openai: Workspace, kept: Host, fake: FakeOpenAI
) -> None:
    openai.grants.grant(OPENAI, SecretName("OPENAI_API_KEY"), domains=["elsewhere.example"])
    result = kept.load("c:local.openai", secrets={"OPENAI_API_KEY": KEY}).run(MODELS)
    assert "host-secret-" in fake.requests[0]["headers"]["authorization"]
    assert [refusal.subject for refusal in result.execution.refusals] == ["secret OPENAI_API_KEY"]
    bound = Secret(KEY, domains=["api.openai.com"])
    assert kept.load("c:local.openai", secrets={"OPENAI_API_KEY": bound}).run(MODELS).ok
    assert fake.requests[1]["headers"]["authorization"] == f"Bearer {KEY}"


def test_a_secret_that_exists_and_is_not_granted_is_not_used(openai: Workspace, kept: Host, fake: FakeOpenAI) -> None:
    openai.vault.set(OPERATOR, SecretName("OPENAI_API_KEY"), SecretValue(KEY))
    with pytest.raises(errors.Denied, match=r"host secret grant c:local\.openai OPENAI_API_KEY"):
        kept.load("c:local.openai").run(MODELS)
    assert fake.requests == []


def test_a_secret_that_is_granted_and_has_no_value_says_what_is_missing(openai: Workspace, kept: Host) -> None:
    openai.grants.grant(OPENAI, SecretName("OPENAI_API_KEY"))
    with pytest.raises(errors.Denied, match="host secret set OPENAI_API_KEY"):
        kept.load("c:local.openai").run(MODELS)


def test_a_policy_that_is_handed_over_takes_the_place_of_the_kept_one(openai: Workspace, kept: Host) -> None:
    catalyst = kept.load("c:local.openai", policy=Policy(), secrets={"OPENAI_API_KEY": KEY})
    with pytest.raises(errors.Denied, match="domain not granted"):
        catalyst.run(MODELS)


def test_runs_are_recorded_in_the_journal_and_in_the_hosts_own_sink(openai: Workspace) -> None:
    events: list[Event] = []

    class Kept:
        def record(self, event: Event) -> None:
            events.append(event)

    with Host(workspace=openai, loader=Loader(CACHE / "host", CACHE / "state"), sink=Kept()) as host:
        result = host.load("c:local.openai", secrets={"OPENAI_API_KEY": KEY}).run(MODELS)
    _, told = run(openai.database, result.execution.id)
    assert [record.kind for record in told] == [event.kind for event in events]
    (summary,) = runs(openai.database, limit=10)
    assert (summary.reference, summary.outcome) == ("c:local.openai:0.1.0", "200")


def test_what_a_component_reads_is_what_was_kept_and_what_is_handed_over(
    openai: Workspace, kept: Host, fake: FakeOpenAI
) -> None:
    openai.config.set(OPENAI, "organization", "org-kept")
    openai.config.set(OPENAI, "project", "proj-kept")
    catalyst = kept.load("c:local.openai", secrets={"OPENAI_API_KEY": KEY}, config={"project": "proj-given"})
    assert catalyst.run(MODELS).ok
    headers = fake.requests[0]["headers"]
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-kept", "proj-given")


def test_a_kept_secret_is_the_private_key_of_the_client_and_is_granted_to_nobody(
    openai: Workspace,
    kept: Host,
    certificates: Certificates,  # noqa: F811 - the fixture
    fake: FakeOpenAI,
) -> None:
    key = base64.b64encode(Path(certificates.file("client.key")).read_bytes()).decode()
    with behind_tls(fake.url, certificates.server("localhost", asks_for_certificates=True)) as at:
        rule = {"ca_file": certificates.file("ca.pem"), "client_certificate": certificates.file("client.pem")}
        openai.policies.update(
            OPENAI,
            {
                "upstreams": {"https://api.openai.com": at},
                "tls": {at: {**rule, "client_key": "secret:CLIENT_KEY"}},
            },
        )
        with pytest.raises(errors.PolicyError, match="no secret CLIENT_KEY is kept"):
            kept.load(OPENAI, secrets={"OPENAI_API_KEY": KEY})
        openai.vault.set(OPERATOR, SecretName("CLIENT_KEY"), SecretValue(key))
        catalyst = kept.load(OPENAI, secrets={"OPENAI_API_KEY": KEY})
        result = catalyst.run(MODELS)
    assert result.ok
    assert "CLIENT_KEY" not in map(str, catalyst.grant.secrets)
    _, told = run(openai.database, result.execution.id)
    assert told[0].detail["tls"].keys() == {at}
    assert key not in str(told)


def test_a_host_without_a_workspace_opens_the_one_of_its_state_directory_when_it_needs_it(
    tmp_path: Path, install: Any
) -> None:
    with Host(state_dir=tmp_path / "other", cache_dir=CACHE / "host") as host:
        assert not (tmp_path / "other" / "state.db").exists()
        with pytest.raises(errors.NotFound):
            host.load("c:local.tool")
        assert (tmp_path / "other" / "state.db").exists()


def test_what_a_host_did_not_open_it_does_not_close(workspace: Workspace, install: Any) -> None:  # noqa: F811 - the fixture
    install(tool())
    with Host(workspace=workspace, loader=Loader(CACHE / "host", CACHE / "state")) as host:
        host.load("c:local.tool").run({})
    assert [str(one.reference) for one in workspace.components.all()] == ["c:local.tool:0.1.0"]


# installing


def test_nothing_is_pushed_that_cannot_be_recorded(
    workspace: Workspace,  # noqa: F811 - the fixture
    install: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(event: Event) -> None:
        raise errors.AuditError(f"no room for {event.kind}")

    install(tool())
    monkeypatch.setattr(workspace.audit_log, "record", full)
    with socket.create_server(("127.0.0.1", 0)) as registry:
        registry.setblocking(False)
        place = f"oci://127.0.0.1:{registry.getsockname()[1]}/tool:1"
        with pytest.raises(errors.AuditError, match=r"component\.pushed"):
            workspace.push(Reference.parse("c:local.tool"), place)
        with pytest.raises(BlockingIOError):
            registry.accept()


def test_nothing_is_kept_of_what_is_refused(workspace: Workspace, install: Any) -> None:  # noqa: F811 - the fixture
    with pytest.raises(errors.VerificationFailed):
        install(tool(id="catalyst:acme.tool"))
    assert workspace.components.all() == []
    assert not (workspace.state_dir / "components").exists()


def test_a_signed_one_is_verified_again_at_every_load(workspace: Workspace, install: Any, kept: Host) -> None:  # noqa: F811 - the fixture
    key = SigningKey.generate()
    workspace.trust.add(key.public, ["acme"])
    wasm = tool(id="catalyst:acme.tool")
    install(wasm, sign(wasm, key).text())
    assert kept.load("c:acme.tool").run({}).ok
    workspace.trust.revoke(key.public.id)
    with pytest.raises(errors.VerificationFailed) as caught:
        kept.load("c:acme.tool")
    assert caught.value.step == 8


def test_signatures_that_anybody_attaches_do_not_keep_an_installed_component_from_running(
    workspace: Workspace,  # noqa: F811 - the fixture
    install: Any,
    kept: Host,
) -> None:
    key, signed = SigningKey.generate(), tool(id="catalyst:acme.tool")
    workspace.trust.add(key.public, ["acme"])
    good = sign(signed, key).text()
    for wave in range(3):
        strangers = [sign(signed, SigningKey.generate()).text() for _ in range(17)]
        install(signed, *strangers, f"junk {wave}", sign(b"other bytes", key).text(), good)
    installed = kept.installed("c:acme.tool")
    assert installed.signers == (key.public.id,)
    assert good in speaking_of(installed.artifact.digest, workspace.components.bundles(installed.artifact.digest))
    assert not any("junk" in text for text in workspace.components.bundles(installed.artifact.digest))


def test_the_parts_of_wasi_that_were_allowed_are_kept_with_it(workspace: Workspace, install: Any, kept: Host) -> None:  # noqa: F811 - the fixture
    reference = Reference.parse("c:local.polls:0.1.0")
    install(wat("rust_like"), reference=reference, wasi=["wasi:io/poll"])
    assert workspace.installed(reference).wasi == ("wasi:io/poll",)
    assert kept.load(reference).imports


def test_a_manifest_beside_the_component_becomes_part_of_it(
    workspace: Workspace,  # noqa: F811 - the fixture
    loader: Loader,
    tmp_path: Path,
) -> None:
    (tmp_path / "catalyst.wasm").write_bytes(wat("hostile/returns_not_json"))
    manifest = json.dumps({"id": "catalyst:local.theirs", "version": "1.0.0"})
    (tmp_path / "cyfr-manifest.json").write_text(manifest)
    component = workspace.register(tmp_path / "catalyst.wasm", loader)
    assert component.reference == Reference.parse("c:local.theirs:1.0.0")
    assert manifest.encode() in workspace.components.content(component)


# what is refused, when it is installed and when it is used

TOOL = Reference.parse("c:local.tool")
ACME = Reference.parse("c:acme.tool")


@pytest.fixture
def acme(workspace: Workspace, install: Any) -> Callable[..., Any]:  # noqa: F811 - the fixture
    """Installs a version that is signed by a key that may sign for it."""
    key = SigningKey.generate()
    workspace.trust.add(key.public, ["acme"])

    def signed(version: str, **more: Any) -> Any:
        wasm = tool(id="catalyst:acme.tool", version=version)
        return install(wasm, sign(wasm, key).text(), **more)

    return signed


def refusals(workspace: Workspace) -> list[tuple[str, str, Any]]:  # noqa: F811 - no fixture
    """Decision, rule and reference of each record of one."""
    with workspace.database.reading() as connection:
        rows = connection.execute(
            select(audit.c.decision, audit.c.rule, audit.c.detail).where(audit.c.kind == "component.refused")
        )
        return [(row.decision, row.rule, json.loads(row.detail)["reference"]) for row in rows]


def test_an_older_version_is_installed_if_that_is_asked_for(workspace: Workspace, acme: Any) -> None:  # noqa: F811 - the fixture
    acme("0.2.0")
    with pytest.raises(errors.VerificationFailed) as caught:
        acme("0.1.0")
    assert caught.value.step == 12
    assert refusals(workspace) == [("deny", errors.VerificationFailed.code, "c:acme.tool:0.1.0")]
    assert acme("0.1.0", older=True).reference == ACME.at("0.1.0")


def test_an_older_version_that_is_left_runs_by_its_version_alone(workspace: Workspace, acme: Any, kept: Host) -> None:  # noqa: F811 - the fixture
    acme("0.1.0")
    acme("0.2.0")
    workspace.components.unregister(ACME.at("0.2.0"))
    with pytest.raises(errors.VerificationFailed) as caught:
        kept.load(ACME)
    assert caught.value.step == 12
    assert kept.load(ACME.at("0.1.0")).reference == "c:acme.tool:0.1.0"


@pytest.mark.parametrize("source", ["oci://registry.example/tool:0.1.0", "oci://c/local.tool"])
def test_local_bytes_from_elsewhere_have_to_be_signed(install: Any, source: str) -> None:
    with pytest.raises(errors.VerificationFailed) as caught:
        install(tool(), source=source)
    assert caught.value.step == 4


def test_other_bytes_in_the_place_of_the_installed_ones_do_not_run(
    workspace: Workspace,  # noqa: F811 - the fixture
    install: Any,
    kept: Host,
) -> None:
    digest = install(tool()).digest
    (workspace.state_dir / "components" / f"{digest.hex}.wasm").write_bytes(tool(description="Not what it was"))
    with pytest.raises(errors.VerificationFailed) as caught:
        kept.load(TOOL)
    assert caught.value.step == 1
    assert refusals(workspace) == [("deny", errors.VerificationFailed.code, "c:local.tool:0.1.0")]


@pytest.mark.parametrize("name", ["c:local.tool", TOOL], ids=["as text", "as a reference"])
def test_bytes_that_were_not_approved_are_looked_at_and_do_not_run(
    workspace: Workspace,  # noqa: F811 - the fixture
    install: Any,
    kept: Host,
    name: str | Reference,
) -> None:
    workspace.policies.set(TOOL, "timeout", "5s")
    component = install(tool())
    assert kept.installed(name, approved=False).component == component
    for use in (kept.installed, kept.load):
        with pytest.raises(errors.NotApproved):
            use(name)
    assert refusals(workspace) == 2 * [("deny", errors.NotApproved.code, "c:local.tool:0.1.0")]
    workspace.components.approve(component)
    assert kept.load(name).run({}).ok


def test_a_domain_that_the_configuration_names_is_one_that_new_bytes_ask_for(
    workspace: Workspace,  # noqa: F811 - the fixture
    install: Any,
) -> None:
    install(tool(domains=[]))
    workspace.config.set(TOOL, "base_url", "https://a.example/v1")
    component = install(tool(domains=["{config.base_url}"]), replace=True)
    assert not component.approved
    assert workspace.review(component).difference.more == (("domain", "a.example"),)


def test_a_name_without_a_version_is_no_name(install: Any) -> None:
    with pytest.raises(errors.InputError, match="no id or no version"):
        install(embed(wat("hostile/returns_not_json"), b'{"id": "catalyst:local.tool"}'))


def test_signatures_beside_a_file_are_installed_with_it(workspace: Workspace, loader: Loader, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    key, wasm = SigningKey.generate(), tool(id="catalyst:acme.tool")
    workspace.trust.add(key.public, ["acme"])
    (tmp_path / "tool.wasm").write_bytes(wasm)
    (tmp_path / "tool.wasm.sigstore.json").write_text(sign(wasm, key).text())
    workspace.register(tmp_path / "tool.wasm", loader)
    assert workspace.installed(ACME).signers == (key.public.id,)


def test_what_is_kept_for_one_version_is_for_that_version(workspace: Workspace, install: Any) -> None:  # noqa: F811 - the fixture
    one = TOOL.at("0.1.0")
    for version in ("0.1.0", "0.2.0"):
        install(tool(version=version))
    workspace.policies.set(one, "timeout", "5s")
    workspace.config.set(one, "key", 1)
    workspace.grants.grant(one, SecretName("KEY"))
    found, other = workspace.installed(one), workspace.installed(TOOL.at("0.2.0"))
    assert (found.effective.policy.timeout, found.config, set(found.secrets)) == ("5s", {"key": 1}, {SecretName("KEY")})
    assert (other.effective.policy, other.config, other.secrets) == (Policy(), {}, {})


def polls() -> bytes:
    """A guest that imports a part of WASI which is not among the harmless ones."""
    text = (GUESTS / "rust_like.wat").read_text()
    poll = '(import "wasi:io/poll@0.2.6" (instance (export "pollable" (type (sub resource)))))'
    return bytes(wat2wasm(text.replace("(component $guest", f"(component $guest {poll}", 1)))


def test_a_part_of_wasi_is_imported_by_the_version_that_it_was_allowed(
    workspace: Workspace,  # noqa: F811 - the fixture
    install: Any,
    kept: Host,
) -> None:
    reference = Reference.parse("c:local.polls:0.1.0")
    install(polls(), reference=reference, wasi=["wasi:io/poll"])
    assert "wasi:io/poll@0.2.6" in kept.load(reference).imports
    assert workspace.imports.document(reference.any_version) == {}
    workspace.imports.reset(reference)
    with pytest.raises(errors.ContractError, match="wasi:io/poll"):
        kept.load(reference)
    assert kept.load(reference, wasi=["wasi:io/poll"]).imports


# the authority of what is kept


def test_what_is_kept_allows_no_more_than_the_manifest_asks_for(
    workspace: Workspace,  # noqa: F811 - the fixture
    install: Any,
    kept: Host,
) -> None:
    install(tool(domains=["{config.base_url}"]))
    workspace.config.set(TOOL, "base_url", "https://a.example/v1")
    workspace.policies.set(TOOL, "allowed_domains", ["a.example", "b.example"])
    assert list(map(str, kept.load(TOOL).grant.requested.domains or ())) == ["a.example"]


def test_no_kept_policy_reaches_beyond_the_hosts_ceiling(workspace: Workspace, install: Any) -> None:  # noqa: F811 - the fixture
    install(tool())
    workspace.policies.set(TOOL, "timeout", "60s")
    ceiling = replace(CEILING, timeout_s=2.0)
    with Host(workspace=workspace, loader=Loader(CACHE / "host", CACHE / "state"), limits=ceiling) as host:
        assert host.load(TOOL).grant.limits.timeout_s == 2.0


# from a registry


@pytest.fixture
def pulled(workspace: Workspace, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:  # noqa: F811 - the fixture
    """Pulls from a registry that has the signed tool, in the version that is said, at every place."""
    key = SigningKey.generate()
    workspace.trust.add(key.public, ["acme"])

    def pull(place: str, version: str) -> Any:
        wasm = tool(id="catalyst:acme.tool", version=version)
        here = PulledArtifact(wasm, (sign(wasm, key).text(),), Digest.of(b"manifest"), Digest.of(wasm), (), (), {})
        monkeypatch.setattr(transfer, "pull", lambda *_, **__: here)
        return workspace.pull(place, loader)

    return pull


PLACE = "oci://registry.example/tool"


def test_a_tag_asks_for_no_version_older_than_there_was_and_a_digest_for_those_very_bytes(pulled: Any) -> None:
    pulled(f"{PLACE}:1", "0.2.0")
    with pytest.raises(errors.VerificationFailed) as caught:
        pulled(f"{PLACE}:1", "0.1.0")
    assert caught.value.step == 12
    assert pulled(f"{PLACE}@{Digest.of(b'old')}", "0.1.0").reference == ACME.at("0.1.0")


def test_what_a_digest_names_is_not_fetched_twice_and_what_a_tag_names_is(
    workspace: Workspace,  # noqa: F811 - the fixture
    pulled: Any,
) -> None:
    for place in (f"{PLACE}:1", f"{PLACE}@{Digest.of(b'manifest')}"):
        pulled(place, "0.1.0" if "@" in place else "0.1.1")
    assert pulled(f"{PLACE}@{Digest.of(b'manifest')}", "0.3.0").reference == ACME.at("0.1.0")
    assert pulled(f"{PLACE}:1", "0.2.0").reference == ACME.at("0.2.0")
    with workspace.database.reading() as connection:
        rows = connection.execute(select(audit.c.detail).where(audit.c.kind == "component.pulled")).scalars()
        assert [json.loads(text)["reference"].rpartition(":")[2] for text in rows] == ["0.1.1", "0.1.0", "0.2.0"]


def test_nothing_is_pushed_that_would_not_run(workspace: Workspace, install: Any) -> None:  # noqa: F811 - the fixture
    key, wasm = SigningKey.generate(), tool(id="catalyst:acme.tool")
    workspace.trust.add(key.public, ["acme"])
    install(wasm, sign(wasm, key).text())
    workspace.trust.revoke(key.public.id)
    with pytest.raises(errors.VerificationFailed) as caught:
        workspace.push(ACME, "oci://127.0.0.1:1/tool:1", plain_http=True)
    assert caught.value.step == 8


def test_the_stamp_is_another_once_the_operator_changed_anything(workspace: Workspace) -> None:  # noqa: F811 - the fixture
    stamps = [workspace.stamp()]
    for change in (
        lambda: workspace.policies.set(OPENAI, "timeout", "5s"),
        lambda: workspace.vault.set(OPERATOR, SecretName("KEY"), SecretValue("a-value-0123456789")),
        lambda: workspace.api_keys.create(name="ci", type="secret"),
        lambda: workspace.api_keys.revoke("ci"),
    ):
        change()
        stamps.append(workspace.stamp())
    assert len(set(stamps)) == len(stamps)
    workspace.audit_log.record(Event("run.started", "run_1"))
    assert workspace.stamp() == stamps[-1]


def test_a_state_is_checked_before_there_is_anything_and_after(workspace: Workspace) -> None:  # noqa: F811 - the fixture
    workspace.check()
    workspace.policies.set(OPENAI, "timeout", "5s")
    workspace.check()
