"""Who gets in to the console, how long, and what others can make his browser do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from host.runtime.workspace import Workspace
from host.server import Application, ServerSettings
from host.server.console.sessions import SESSION_S, Sessions
from host.service.catalog import LOOK_S
from host.store.access.api_keys import ApiKey
from host.store.audit_log.records import Wanted, newest_records
from tests.server.conftest import Server, copied
from tests.server.console.conftest import API, Browser
from tests.server.engine import SharedLoader

MANAGED = [
    ("GET", "/overview"),
    ("GET", "/runs"),
    ("GET", "/runs/run_0"),
    ("POST", "/runs/run_0/cancel"),
    ("GET", "/catalysts"),
    ("GET", "/catalysts/c:local.openai"),
    ("GET", "/catalysts/c:local.openai/operations/models.list"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("POST", "/keys/0/rotate"),
    ("POST", "/keys/0/revoke"),
    ("GET", "/usage"),
    ("POST", "/playground"),
    ("DELETE", "/session"),
]
endpoints = pytest.mark.parametrize(("method", "path"), MANAGED, ids=[f"{method} {path}" for method, path in MANAGED])
BODY: dict[tuple[str, str], Any] = {
    ("POST", "/keys"): {"name": "made", "type": "secret"},
    ("POST", "/playground"): {"reference": "c:local.openai", "operation": "models.list"},
}


@dataclass(frozen=True)
class Standing:
    """A server, and the texts of keys by their type that may only run."""

    workspace: Workspace
    url: str
    keys: Mapping[str, str]


@pytest.fixture(scope="module")
def standing(installed_state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """One server for all requests that it refuses."""
    state_dir = copied(installed_state, tmp_path_factory.mktemp("standing") / "state")
    with pytest.MonkeyPatch.context() as patched, Workspace.open(state_dir) as workspace:
        patched.setattr("host.runtime.host.Loader", SharedLoader)
        workspace.api_keys.create(name="admin", type="admin")
        keys = {
            kind: workspace.api_keys.create(name=f"a {kind}", type=kind, scopes=["run"])[1]
            for kind in ("public", "secret", "admin")
        }
        application = Application(state_dir=state_dir, workspace=workspace)
        with closing(application), closing(Server(application)) as server:
            yield Standing(workspace, server.url, keys)


def until(true: Callable[[], bool]) -> None:
    """A server knows of what changed as soon as it looks."""
    ends = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends
        time.sleep(LOOK_S / 4)


def test_the_list_has_every_endpoint_but_those_for_signing_in(server: Server) -> None:
    from host.server.console import Console

    application = server.application
    console = Console(application.catalog, application.dispatch, application.workspace, application.settings)
    found = {
        (next(iter(route.methods - {"HEAD"})), re.sub(r"\{\w+\}", "*", route.path.removeprefix(API)))
        for route in console.routes()
        if route.path.startswith(API)
    }
    known = {("GET", "/session"), ("POST", "/session")}
    known |= {
        (method, re.sub(r"run_0|c:local\.openai|models\.list|(?<=keys/)0", "*", path)) for method, path in MANAGED
    }
    assert found == known


@endpoints
def test_without_a_session_or_a_key_nothing_is_told(standing: Standing, method: str, path: str) -> None:
    with closing(Browser(standing.url)) as browser:
        answer = browser.ask(method, path, BODY.get((method, path), {}))
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "unauthenticated"


@endpoints
@pytest.mark.parametrize("kind", ["public", "secret", "admin"])
def test_a_key_that_may_not_manage_is_refused_everywhere(standing: Standing, method: str, path: str, kind: str) -> None:
    with closing(Browser(standing.url)) as browser:
        given = BODY.get((method, path), {})
        answer = browser.ask(method, path, given, authorization=f"Bearer {standing.keys[kind]}")
    assert answer.status_code == 403
    assert "does not have the scope 'manage'" in answer.json()["error"]["message"]
    refused = newest_records(standing.workspace.database, 1, Wanted(kind="request.refused"))[0]
    assert refused.detail["route"].startswith(f"{method} {API}/")


@endpoints
def test_an_admin_key_is_enough_for_every_endpoint(
    admin: tuple[ApiKey, str], browser: Browser, method: str, path: str
) -> None:
    answer = browser.ask(method, path, BODY.get((method, path), {}), authorization=f"Bearer {admin[1]}", origin="")
    assert answer.status_code in (200, 400, 404), answer.text  # some name what is not there


@pytest.mark.parametrize("kind", ["public", "secret"])
def test_a_key_that_may_not_manage_does_not_sign_in(
    workspace: Workspace, serving: Callable[..., Server], kind: Any
) -> None:
    text = workspace.api_keys.create(name="ci", type=kind)[1]
    with closing(Browser(serving().url)) as browser:
        answer = browser.sign_in(text)
    assert answer.status_code == 403
    assert "does not have the scope 'manage'" in answer.json()["error"]["message"]
    assert "set-cookie" not in answer.headers


def test_without_any_key_the_page_says_how_to_make_one_and_nothing_else(browser: Browser) -> None:
    told = browser.get("/session").json()
    assert told == {"signed_in": False, "configured": False, "command": "host key create --name admin --type admin"}
    answer = browser.get("/overview")
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "unauthenticated")
    assert browser.sign_in("host_ak_nonsense").status_code == 401


def test_a_session_is_a_cookie_that_no_script_reads_and_no_other_site_sends(
    admin: tuple[ApiKey, str], browser: Browser
) -> None:
    answer = browser.sign_in(admin[1])
    cookie = answer.headers["set-cookie"]
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "httponly", "max-age=28800", "path=/", "samesite=strict",
    }  # fmt: skip
    assert cookie.startswith("host-console=")
    assert admin[1] not in cookie
    told = browser.get("/session").json()
    assert told["signed_in"] is True
    assert told["key"]["name"] == "admin"
    assert told["token"] == browser.token
    assert browser.get("/overview").status_code == 200


def test_by_https_the_cookie_is_for_https_and_this_host_alone(
    admin: tuple[ApiKey, str], serving: Callable[..., Server]
) -> None:
    server = serving(ServerSettings(trusted_proxies=(ip_network("127.0.0.0/8"),)))
    one = Browser(server.url)
    origin = server.url.replace("http:", "https:")
    answer = one.sign_in(admin[1], origin=origin, x_forwarded_proto="https")
    assert answer.headers["set-cookie"].startswith("__Host-console=")
    assert "secure" in answer.headers["set-cookie"].lower()
    cookie = answer.headers["set-cookie"].partition(";")[0]
    assert one.get("/overview", cookie=cookie, **{"x-forwarded-proto": "https"}).status_code == 200
    assert one.get("/overview", cookie=cookie).status_code == 401, "a cookie of https is no cookie of http"
    assert one.sign_in(admin[1], x_forwarded_proto="https").status_code == 403, "its page is not of http"
    one.close()


def test_nobody_but_a_trusted_proxy_says_that_it_is_https(admin: tuple[ApiKey, str], browser: Browser) -> None:
    answer = browser.sign_in(admin[1], x_forwarded_proto="https")
    assert "secure" not in answer.headers["set-cookie"].lower()


def test_signing_out_takes_the_cookie_away(operator: Browser) -> None:
    answer = operator.ask("DELETE", "/session")
    assert answer.json() == {"signed_in": False}
    assert operator.get("/session").json()["signed_in"] is False


def test_a_revoked_key_signs_out(operator: Browser, workspace: Workspace, admin: tuple[ApiKey, str]) -> None:
    workspace.api_keys.create(name="another", type="admin")
    workspace.api_keys.revoke("admin")
    until(lambda: operator.get("/overview").status_code == 401)


def test_a_rotated_key_signs_out_whoever_had_the_text_before(
    operator: Browser, other: Callable[[], Browser], workspace: Workspace, admin: tuple[ApiKey, str]
) -> None:
    """But for the session that rotated it: its page has the new text yet to show."""
    second = other()
    assert second.sign_in(admin[1]).status_code == 200
    answer = operator.post(f"/keys/{admin[0].id}/rotate", {"overlap_s": 0})
    operator.token = answer.json()["session"]["token"]
    until(lambda: second.get("/overview").status_code == 401)
    assert operator.get("/overview").status_code == 200
    assert operator.post("/keys", {"name": "more", "type": "secret"}).status_code == 200


def test_an_expired_key_signs_out(workspace: Workspace) -> None:
    """Of which there is nothing to be looked up anew."""
    key = workspace.api_keys.create(name="brief", type="admin", expires_at=time.time() + 60)[0]
    keys = workspace.api_keys.snapshot()
    assert keys.active(key.id, time.time()) == key
    assert keys.active(key.id, time.time() + 61) is None
    assert keys.active("0" * 12, time.time()) is None


def test_a_key_counts_from_where_it_may_be_used(serving: Callable[..., Server], workspace: Workspace) -> None:
    """Also in a session: the address is looked at anew."""
    text = workspace.api_keys.create(name="far", type="admin", ip_allowlist=[ip_network("10.1.2.0/24")])[1]
    one = Browser(serving(ServerSettings(trusted_proxies=(ip_network("127.0.0.0/8"),))).url)
    assert one.sign_in(text).status_code == 401
    assert one.sign_in(text, x_forwarded_for="10.1.2.3").status_code == 200
    assert one.get("/overview", **{"x-forwarded-for": "10.1.2.3"}).status_code == 200
    assert one.get("/overview", **{"x-forwarded-for": "10.9.9.9"}).status_code == 401
    one.close()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"x_csrf_token": ""}, id="without its token"),
        pytest.param({"x_csrf_token": "0" * 64}, id="with another token"),
        pytest.param({"origin": ""}, id="without an origin"),
        pytest.param({"origin": "null"}, id="from nowhere"),
        pytest.param({"origin": "https://evil.example"}, id="from another site"),
        pytest.param({"origin": "https://127.0.0.1"}, id="from another port"),
        pytest.param({"sec_fetch_site": "cross-site"}, id="where the browser says that another site asked"),
        pytest.param({"sec_fetch_site": "same-site"}, id="where a neighbour asked"),
    ],
)
def test_a_forged_request_changes_nothing(operator: Browser, workspace: Workspace, headers: dict[str, str]) -> None:
    answer = operator.post("/keys", {"name": "forged", "type": "admin"}, **headers)
    assert answer.status_code == 403
    assert [key.name for key in workspace.api_keys.all()] == ["admin"]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_form_can_send_is_not_read(operator: Browser, workspace: Workspace, content_type: str) -> None:
    answer = operator.post("/keys", {"name": "forged", "type": "admin"}, content_type=content_type)
    assert answer.status_code == 400
    assert [key.name for key in workspace.api_keys.all()] == ["admin"]


def test_a_token_is_of_one_session(operator: Browser, other: Callable[[], Browser], admin: tuple[ApiKey, str]) -> None:
    second = other()
    second.sign_in(admin[1])
    assert second.token != operator.token
    assert operator.post("/keys", {"name": "x", "type": "secret"}, x_csrf_token=second.token).status_code == 403


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"), id="its signature"),
        pytest.param(lambda text: "b" * 12 + text[12:], id="whose it is"),
        pytest.param(lambda text: re.sub(r"\.(\d{16})\.", lambda m: f".{int(m[1]) + 10**9}.", text), id="its end"),
        pytest.param(lambda text: text.rpartition(".")[0], id="without a signature"),
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: "x" * 5_000, id="nonsense"),
    ],
)
def test_a_changed_cookie_is_none(operator: Browser, change: Callable[[str], str]) -> None:
    text = operator.client.cookies["host-console"]
    operator.client.cookies.clear()
    assert operator.get("/overview", cookie=f"host-console={text}").status_code == 200
    assert operator.get("/overview", cookie=f"host-console={change(text)}").status_code == 401


def test_a_session_ends_by_itself_and_is_known_to_every_process(
    workspace: Workspace, admin: tuple[ApiKey, str]
) -> None:
    session, text = Sessions(workspace).begin(admin[0].id)
    elsewhere = Sessions(workspace)
    assert elsewhere.read(text, session.began_at + SESSION_S - 1) == session
    assert elsewhere.read(text, session.began_at + SESSION_S + 1) is None
    assert elsewhere.token(session) != elsewhere.token(replace(session, id="x" * 24))
