"""Who gets in, by which key and from where; and the ways in that are none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from host.core.names import Reference
from host.errors import Forbidden, Unauthenticated
from host.runtime.workspace import Workspace
from host.server.asgi import client_address, principal_of
from host.server.settings import ServerSettings
from host.service.principal import Principal
from host.store.access.api_keys import SCOPES, KeyRing
from tests.conftest import fresh_state
from tests.server.conftest import OPENAI

PROXIES = (ip_network("10.0.0.0/8"),)


def scope(client: str | None = "127.0.0.1", **headers: str) -> dict[str, Any]:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": None if client is None else (client, 1234), "headers": fields}


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(fresh_state(tmp_path / "state")) as workspace:
        yield workspace


def ring(workspace: Workspace) -> KeyRing:
    return workspace.api_keys.snapshot()


class TestWithoutAnyKey:
    def test_this_machines_users_may_run_and_not_manage(self, empty: Workspace) -> None:
        principal = principal_of(scope(authorization="Bearer whatever"), ring(empty), ServerSettings())
        assert principal.may("run")
        assert not principal.may("manage")

    @pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", None])
    def test_the_loopback_interface_is_this_machine(self, empty: Workspace, client: str | None) -> None:
        assert principal_of(scope(client), ring(empty), ServerSettings()).key is None

    @pytest.mark.parametrize("client", ["10.0.0.5", "192.0.2.1", "::ffff:10.0.0.5", "fe80::1", "not an address"])
    def test_others_get_nothing(self, empty: Workspace, client: str) -> None:
        with pytest.raises(Unauthenticated):
            principal_of(scope(client), ring(empty), ServerSettings())

    @pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "x_real_ip", "via"])
    def test_what_a_proxy_on_this_machine_hands_on_is_not_this_machines(self, empty: Workspace, header: str) -> None:
        with pytest.raises(Unauthenticated):
            principal_of(scope(**{header: "127.0.0.1"}), ring(empty), ServerSettings())

    @pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "x_real_ip", "via"])
    def test_nor_where_whoever_sent_it_began_with_an_empty_one(self, empty: Workspace, header: str) -> None:
        given = scope(**{header: ""})
        given["headers"].append((header.replace("_", "-").encode(), b"192.0.2.1"))
        with pytest.raises(Unauthenticated):
            principal_of(given, ring(empty), ServerSettings())

    def test_nobody_gets_in_where_the_server_says_so(self, empty: Workspace) -> None:
        with pytest.raises(Unauthenticated):
            principal_of(scope(), ring(empty), ServerSettings(anonymous=False))


class TestWithAKey:
    @pytest.mark.parametrize(
        "header",
        [
            pytest.param({}, id="no header"),
            pytest.param({"authorization": ""}, id="an empty one"),
            pytest.param({"authorization": "Bearer "}, id="no text"),
            pytest.param({"authorization": "Bearer host_sk_nobody"}, id="somebody else's"),
            pytest.param({"authorization": "Basic {key}"}, id="another scheme"),
            pytest.param({"authorization": "{key}"}, id="no scheme"),
            pytest.param({"authorization": "Bearer {key}x"}, id="one letter more"),
            pytest.param({"x_api_key": "{key}"}, id="another header"),
        ],
    )
    def test_the_loopback_interface_needs_it_too(self, empty: Workspace, header: dict[str, str]) -> None:
        _, text = empty.api_keys.create(name="ci", type="secret")
        given = {name: value.replace("{key}", text) for name, value in header.items()}
        with pytest.raises(Unauthenticated) as raised:
            principal_of(scope(**given), ring(empty), ServerSettings())
        assert text not in str(raised.value)

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    def test_its_holder_gets_in(self, empty: Workspace, scheme: str) -> None:
        key, text = empty.api_keys.create(name="ci", type="secret")
        principal = principal_of(scope("192.0.2.9", authorization=f"{scheme} {text}"), ring(empty), ServerSettings())
        assert principal.key == key

    def test_one_that_was_revoked_or_has_expired_opens_nothing_and_not_the_door_to_all(
        self, empty: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, revoked = empty.api_keys.create(name="a", type="secret")
        _, expired = empty.api_keys.create(name="b", type="secret", expires_at=(end := time.time() + 60))
        empty.api_keys.revoke("a")
        monkeypatch.setattr(time, "time", lambda: end + 0.1)
        for text in (revoked, expired, "whatever"):
            with pytest.raises(Unauthenticated):
                principal_of(scope(authorization=f"Bearer {text}"), ring(empty), ServerSettings())

    def test_once_there_was_one_there_is_no_way_in_without(self, empty: Workspace) -> None:
        empty.api_keys.create(name="a", type="secret")
        empty.api_keys.revoke("a")
        with pytest.raises(Unauthenticated):
            principal_of(scope(), ring(empty), ServerSettings())


class TestAnAllowlist:
    @pytest.mark.parametrize(
        ("client", "forwarded", "proxies", "may"),
        [
            pytest.param("192.0.2.7", None, (), True, id="the peer is on it"),
            pytest.param("198.51.100.1", None, (), False, id="the peer is not"),
            pytest.param("198.51.100.1", "192.0.2.7", (), False, id="a header says that it is: nobody believes it"),
            pytest.param("10.0.0.1", "192.0.2.7", PROXIES, True, id="a trusted proxy says that it is"),
            pytest.param("198.51.100.1", "192.0.2.7", PROXIES, False, id="somebody who is no trusted proxy says so"),
            pytest.param("10.0.0.1", "192.0.2.7, 198.51.100.1", PROXIES, False, id="the client's own word before the proxy's"),
            pytest.param("10.0.0.1", "192.0.2.7, 10.9.9.9", PROXIES, True, id="two trusted proxies one behind the other"),
            pytest.param("10.0.0.1", "192.0.2.7, nonsense", PROXIES, False, id="a header that is no address"),
            pytest.param("10.0.0.1", None, PROXIES, False, id="the proxy itself"),
            pytest.param(None, None, (), False, id="a Unix socket"),
        ],
    )  # fmt: skip
    def test_goes_by_where_the_request_came_from(
        self, empty: Workspace, client: str | None, forwarded: str | None, proxies: Any, may: bool
    ) -> None:
        _, text = empty.api_keys.create(name="ci", type="secret", ip_allowlist=[ip_network("192.0.2.0/24")])
        given = scope(client, authorization=f"Bearer {text}", **({"x_forwarded_for": forwarded} if forwarded else {}))
        settings = ServerSettings(trusted_proxies=proxies)
        if may:
            assert principal_of(given, ring(empty), settings).name == "ci"
        else:
            with pytest.raises(Unauthenticated):
                principal_of(given, ring(empty), settings)


def test_an_address_of_ipv4_in_ipv6_is_the_one_of_ipv4() -> None:
    assert str(client_address(scope("::ffff:192.0.2.7"), ServerSettings())) == "192.0.2.7"


class TestAPrincipal:
    @pytest.fixture
    def of(self, empty: Workspace) -> Any:
        def make(**more: Any) -> Principal:
            return Principal.of(empty.api_keys.create(name="ci", type="admin", **more)[0])

        return make

    def test_has_the_scopes_of_its_key_and_no_other(self, of: Any) -> None:
        principal = of(scopes={"run"})
        principal.require("run")
        for other in set(SCOPES) - {"run"}:
            with pytest.raises(Forbidden, match=other):
                principal.require(other)

    @pytest.mark.parametrize(
        ("catalysts", "asked", "may"),
        [
            pytest.param((), "c:local.openai:0.1.0", True, id="any where none is named"),
            pytest.param(
                ("c:local.openai",), "c:local.openai:0.2.0", True, id="every version of one without a version"
            ),
            pytest.param(("c:local.openai:0.1.0",), "c:local.openai:0.1.0", True, id="that version"),
            pytest.param(("c:local.openai:0.1.0",), "c:local.openai:0.2.0", False, id="not another version"),
            pytest.param(("c:local.openai",), "c:acme.openai:0.1.0", False, id="not one of another namespace"),
        ],
    )
    def test_may_use_catalysts(self, of: Any, catalysts: Any, asked: str, may: bool) -> None:
        principal = of(catalysts=tuple(map(Reference.parse, catalysts)))
        assert principal.may_use(Reference.parse(asked)) is may

    @pytest.mark.parametrize(
        ("models", "asked", "may"),
        [
            ((), "anything", True),
            (("gpt-4o*",), "gpt-4o-mini", True),
            (("gpt-4o",), "gpt-4o-mini", False),
            (("GPT*",), "gpt-4o", False),
            (("a", "b?"), "bc", True),
        ],
    )
    def test_may_ask_for_models(self, of: Any, models: Any, asked: str, may: bool) -> None:
        assert of(models=models).may_ask(asked) is may

    def test_that_is_for_some_models_has_to_name_one(self, of: Any) -> None:
        with pytest.raises(Forbidden, match="does not show which model"):
            of(models=("gpt-*",)).require_any_model()

    def test_without_a_key_may_use_everything_that_is_served(self) -> None:
        principal = Principal(None, frozenset({"run"}))
        principal.require_catalyst(OPENAI)
        principal.require_model("anything")
        principal.require_any_model()


def test_a_proxy_that_adds_a_line_of_its_own_is_believed_and_not_the_lines_before_it() -> None:
    """As HAProxy does: what it was sent stays in front of it."""
    given = scope("10.0.0.1", x_forwarded_for="10.0.0.5, 10.0.0.6")
    given["headers"].append((b"x-forwarded-for", b"192.0.2.1"))
    assert str(client_address(given, ServerSettings(trusted_proxies=PROXIES))) == "192.0.2.1"
