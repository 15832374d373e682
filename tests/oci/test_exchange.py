"""One request and its answer: authorization, redirects, retries, unreachable registries."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from base64 import b64encode
from contextlib import suppress
from threading import Event
from urllib.parse import parse_qs, urlsplit

import pytest

from host.errors import RegistryError
from host.oci import exchange
from host.oci.auth import Credential
from host.oci.client import RegistryClient
from host.oci.documents import Descriptor
from host.oci.reference import OciReference
from host.secrets.value import SecretValue
from tests.egress.conftest import OK, Server
from tests.oci.conftest import PASSWORD, USER, Alice, client, new_repository

CONTENT = b"some content"
BLOB = Descriptor.of(CONTENT, "application/wasm")
BASIC = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture
def repository(registry) -> str:
    name = new_repository()
    with client(registry, repository=name) as one:
        one.upload(CONTENT, "it")
    return name


def _authorizations(relay) -> list[str | None]:
    return [one.headers.get("Authorization") for one in relay.asked]


# Authorization


def test_a_password_opens_a_guarded_registry(guarded_registry):
    who = Alice(guarded_registry)
    with client(guarded_registry, who=who) as one:
        one.upload(CONTENT, "it")
        assert one.blob(BLOB, "it") == CONTENT
    assert who.wanted == [guarded_registry]


def test_without_a_password_it_stays_shut_and_the_remedy_is_said(guarded_registry):
    with client(guarded_registry) as one, pytest.raises(RegistryError) as caught:
        one.blob(BLOB, "it")
    assert caught.value.status == 401
    assert caught.value.hint == f"docker login {guarded_registry}"
    assert caught.value.message.endswith(": UNAUTHORIZED")


def test_a_wrong_password_is_tried_once(guarded_registry, relay):
    between = relay(guarded_registry)
    with client(between.address, who=_Wrong()) as one:
        for asked in (2, 3):  # the second time with the password from the start
            with pytest.raises(RegistryError) as caught:
                one.blob(BLOB, "it")
            assert caught.value.status == 401
            assert "nonsense" not in str(caught.value)
            assert len(between.asked) == asked


class _Wrong:
    def find(self, registry):
        return Credential("mallory", SecretValue("nonsense"))


def test_nobody_is_told_who_we_are_unasked(registry, relay, repository):
    between = relay(registry)
    who = Alice(between.address)
    with client(between.address, repository=repository, who=who) as one:
        one.blob(BLOB, "it")
    assert _authorizations(between) == [None]
    assert who.wanted == []


def _tokens(relay, registry, *, realm: str = "", answer: bytes = b'{"token":"T0ken"}', status: int = 200):
    """A registry that requires a bearer token and issues it itself, unless `realm` is elsewhere."""
    address = []

    def behave(visit):
        if visit.asked.path.startswith("/token"):
            return visit.send(status, {"Content-Type": "application/json"}, answer)
        if visit.asked.headers.get("Authorization") != "Bearer T0ken":
            wanted = realm or f"http://{address[0]}/token"
            return visit.send(
                401, {"WWW-Authenticate": f'Bearer realm="{wanted}",service="srv",scope="repository:r:pull"'}, b""
            )
        return visit.forward()

    one = relay(registry, behave)
    address.append(one.address)
    return one


def test_a_token_is_had_with_the_password_and_then_used(registry, relay, repository):
    guarded = _tokens(relay, registry)
    with client(guarded.address, repository=repository, who=Alice(guarded.address)) as one:
        assert one.blob(BLOB, "it") == CONTENT
        assert one.blob(BLOB, "it") == CONTENT
    assert _authorizations(guarded) == [None, BASIC, "Bearer T0ken", "Bearer T0ken"]
    query = parse_qs(urlsplit(guarded.asked[1].path).query)
    assert query == {
        "service": ["srv"],
        "scope": ["repository:r:pull"],
        "client_id": ["catalyst-host"],
        "account": [USER],
    }


def test_a_token_can_be_had_by_anybody(registry, relay, repository):
    guarded = _tokens(relay, registry, answer=b'{"access_token":"T0ken"}')
    with client(guarded.address, repository=repository) as one:
        assert one.blob(BLOB, "it") == CONTENT
    assert _authorizations(guarded) == [None, None, "Bearer T0ken"]


def test_an_identity_token_is_exchanged_and_not_sent_as_a_password(registry, relay, repository):
    guarded = _tokens(relay, registry)
    with client(guarded.address, repository=repository, who=Alice(guarded.address, is_identity_token=True)) as one:
        assert one.blob(BLOB, "it") == CONTENT
    asked = guarded.asked[1]
    assert (asked.method, asked.headers.get("Authorization")) == ("POST", None)
    assert parse_qs(asked.body.decode())["refresh_token"] == [PASSWORD]
    assert parse_qs(asked.body.decode())["grant_type"] == ["refresh_token"]


@pytest.mark.parametrize(
    "realm",
    [
        pytest.param("http://auth.test/token", id="plain HTTP elsewhere"),
        pytest.param("http://127.0.0.1.evil.test/token", id="plain HTTP at what looks like this machine"),
        pytest.param("ftp://auth.test/token", id="another protocol"),
        pytest.param("/token", id="no host"),
        pytest.param("http://[", id="no URL"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_token_realm_that_is_not_safe_gets_no_password(registry, relay, repository, realm):
    guarded = _tokens(relay, registry, realm=realm or '\\"')
    who = Alice(guarded.address)
    with client(guarded.address, repository=repository, who=who) as one, pytest.raises(RegistryError, match="not safe"):
        one.blob(BLOB, "it")
    assert who.wanted == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"{}", id="none"),
        pytest.param(b'{"token":"a\\r\\nX-Evil: 1"}', id="one that would be two headers"),
        pytest.param(b'{"token":["a"]}', id="a list"),
        pytest.param(b"T0ken", id="no JSON"),
        pytest.param(b" " * 1_000_000 + b'{"token":"T0ken"}', id="one after a megabyte"),
    ],
)
def test_a_token_that_is_none_is_refused(registry, relay, repository, answer):
    guarded = _tokens(relay, registry, answer=answer)
    with client(guarded.address, repository=repository) as one, pytest.raises(RegistryError, match="no token"):
        one.blob(BLOB, "it")


def test_where_no_token_is_given_the_remedy_is_said(registry, relay, repository):
    guarded = _tokens(relay, registry, status=403, answer=b'{"errors":[{"code":"DENIED","message":"no"}]}')
    with (
        client(guarded.address, repository=repository) as one,
        pytest.raises(RegistryError, match=r"token: DENIED \(docker") as caught,
    ):
        one.blob(BLOB, "it")
    assert caught.value.hint == f"docker login {guarded.address}"


def test_a_token_that_has_run_out_is_had_anew_in_mid_upload(registry, relay):
    """Each token is good for two requests."""
    good: list[str] = []
    left = [0]
    address: list[str] = []

    def behave(visit):
        if visit.asked.path.startswith("/token"):
            good.append(f"T{len(good)}")
            left[0] = 2
            return visit.send(200, {}, json.dumps({"token": good[-1]}).encode())
        if left[0] == 0 or visit.asked.headers.get("Authorization") != f"Bearer {good[-1]}":
            return visit.send(401, {"WWW-Authenticate": f'Bearer realm="http://{address[0]}/token"'}, b"")
        left[0] -= 1
        return visit.forward()

    guarded = relay(registry, behave)
    address.append(guarded.address)
    with client(guarded.address) as one:
        one.upload(CONTENT, "it")
        assert one.blob(BLOB, "it") == CONTENT
    assert len(good) == 2


# Redirects


def _redirecting(where, *, status: int = 307):
    def behave(visit):
        if f"/blobs/{BLOB.digest}" in visit.asked.path:
            return visit.send(status, {"Location": where(visit)}, b"")
        return visit.forward()

    return behave


def test_a_redirect_to_another_origin_does_not_get_the_authorization(guarded_registry, relay):
    storage = relay(guarded_registry, lambda visit: visit.send(200, {}, CONTENT))
    front = relay(
        guarded_registry,
        lambda visit: (
            visit.send(307, {"Location": f"http://{storage.address}/blob?signed=1"}, b"")
            if "Authorization" in visit.asked.headers
            else visit.forward()
        ),
    )
    with client(front.address, who=Alice(front.address)) as one:
        assert one.blob(BLOB, "it") == CONTENT
    assert _authorizations(front)[-1] == BASIC
    assert _authorizations(storage) == [None]


def test_another_origin_that_asks_who_we_are_is_not_told(registry, relay):
    nosy = relay(registry, lambda visit: visit.send(401, {"WWW-Authenticate": "Basic realm=x"}, b""))
    front = relay(registry, _redirecting(lambda visit: f"http://{nosy.address}/blob"))
    who = Alice(front.address)
    with client(front.address, who=who) as one, pytest.raises(RegistryError):
        one.blob(BLOB, "it")
    assert _authorizations(nosy) == [None]
    assert who.wanted == []


def test_a_redirect_within_the_registry_is_followed(registry, relay, repository):
    def behave(visit):
        if "stored" in visit.asked.path:
            return visit.send(200, {}, CONTENT)
        return visit.send(302, {"Location": "/stored"}, b"")

    front = relay(registry, behave)
    with client(front.address, repository=repository) as one:
        assert one.download(BLOB, "it") == CONTENT
    assert [one.path for one in front.asked][1:] == ["/stored"]


@pytest.mark.parametrize("place", ["http://a..b/", "http://" + "a" * 64 + ".test/"])
def test_a_redirect_to_a_name_that_is_none(registry, relay, place):
    front = relay(registry, _redirecting(lambda visit: place))
    with client(front.address) as one, pytest.raises(RegistryError, match="no URL"):
        one.blob(BLOB, "it")


def test_redirects_without_end(registry, relay):
    front = relay(registry, _redirecting(lambda visit: visit.asked.path))
    with client(front.address) as one, pytest.raises(RegistryError, match="redirects more than 5 times"):
        one.blob(BLOB, "it")
    assert len(front.asked) == 6


def test_a_redirect_of_a_manifest_is_not_followed(registry, relay):
    other = relay(registry)
    front = relay(registry, lambda visit: visit.send(307, {"Location": f"http://{other.address}/"}, b""))
    with client(front.address) as one, pytest.raises(RegistryError, match="answered 307"):
        one.manifest()
    assert other.asked == []


def test_no_cookie_is_kept(registry, relay, repository):
    def behave(visit):
        status, headers, body = visit.upstream()
        visit.send(status, headers | {"Set-Cookie": "session=1; Path=/"}, body)

    front = relay(registry, behave)
    with client(front.address, repository=repository) as one:
        one.blob(BLOB, "it")
        one.blob(BLOB, "it")
    assert not any("Cookie" in one.headers for one in front.asked)


def test_proxies_and_netrc_of_the_environment_are_ignored(registry, relay, repository, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    front = relay(registry)
    with client(front.address, repository=repository) as one:
        assert one.blob(BLOB, "it") == CONTENT
    assert _authorizations(front) == [None]


# Retries


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(registry, relay, repository, status):
    busy = [2]

    def behave(visit):
        if busy[0]:
            busy[0] -= 1
            return visit.answer(status)
        return visit.forward()

    front = relay(registry, behave)
    with client(front.address, repository=repository) as one:
        assert one.blob(BLOB, "it") == CONTENT
    assert len(front.asked) == 3


def test_after_the_third_try_it_is_said_what_the_registry_said(registry, relay):
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\\u001b[31m\\n down"}]}'
    pauses: list[float] = []
    front = relay(registry, lambda visit: visit.send(429, {}, body))
    place = OciReference.parse(f"oci://{front.address}/a")
    with RegistryClient(place, pause=pauses.append) as one, pytest.raises(RegistryError) as caught:
        one.manifest()
    assert caught.value.status == 429
    assert caught.value.message.endswith(": TOOMANYREQUESTS")
    assert caught.value.hint == "try again later"
    assert len(front.asked) == 3
    assert pauses == sorted(pauses)
    assert len(pauses) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 418])
def test_what_does_not_pass_is_not_tried_again(registry, relay, status):
    front = relay(registry, lambda visit: visit.answer(status))
    with client(front.address) as one, pytest.raises(RegistryError) as caught:
        one.blob(BLOB, "it")
    assert caught.value.status == status
    assert len(front.asked) == 1


# Unreachable registries


_BEGINNINGS = [
    pytest.param(b"HTTP/1.1 200 OK\r\nX-Padding: ", b"a", id="in a field that does not end"),
    pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", id="in answers before the answer"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"a", id="in a chunk that does not begin"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"a", id="in a body"),
]


@pytest.mark.parametrize(("beginning", "drop"), _BEGINNINGS)
def test_a_registry_that_answers_drop_by_drop_is_given_up(relay, timed_from, monkeypatch, beginning, drop):
    monkeypatch.setattr(exchange, "_TOTAL_TIMEOUT_S", 0.3)

    def drip(visit):
        visit.write(beginning)
        with suppress(OSError):  # the client has left
            while not given_up.wait(0.01):
                visit.write(drop)

    given_up = Event()
    between = relay("", drip)
    timed_from(lambda: bool(between.asked))
    try:
        with client(between.address) as one, pytest.raises(RegistryError, match="takes more than 0 s, asked to send"):
            one.manifest("latest", most=1 << 30)
        assert len(between.asked) == 1, "it is not asked again"
    finally:
        given_up.set()


def test_a_registry_that_nobody_runs_is_named():
    with socket.socket() as unheard:  # bound, so that nobody else listens there
        unheard.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        with (
            client(address) as one,
            pytest.raises(RegistryError, match=f"{address} cannot be reached: connection refused") as caught,
        ):
            one.manifest()
    assert caught.value.status is None
    assert caught.value.hint


def test_a_registry_whose_name_does_not_resolve_is_told_so(monkeypatch):
    def resolver(name):
        raise socket.gaierror(socket.EAI_NONAME, str(name))

    monkeypatch.setattr("host.oci.network.system_resolver", resolver)
    with client("registry.invalid") as one, pytest.raises(RegistryError, match="its name does not resolve"):
        one.manifest()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A folder with a key and a self-signed certificate for `localhost`."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
               "-keyout", str(folder / "key"), "-out", str(folder / "crt")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def serving():
    opened: list[Server] = []

    def serve(behave, tls=None) -> Server:
        opened.append(Server(behave, tls, "127.0.0.1"))
        return opened[-1]

    yield serve
    for one in opened:
        one.close()


def _over_tls(server: Server) -> RegistryClient:
    """A client that speaks TLS to a server on this machine. References use plain HTTP for it."""
    place = OciReference.parse(f"oci://localhost:{server.port}/a")
    one = RegistryClient(place, pause=lambda seconds: None)
    one._exchange.base = one._exchange.base.copy_with(scheme="https")
    return one


def test_a_certificate_that_nobody_vouches_for_is_refused(serving, certificate):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "crt", certificate / "key")
    server = serving(lambda peer: peer.request() and peer.send(OK), tls)
    with _over_tls(server) as one, pytest.raises(RegistryError, match=r"certificate of localhost.* is not acceptable"):
        one.manifest()
    assert server.requests == []


def test_a_registry_that_speaks_plain_http_is_told_apart(serving):
    server = serving(lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
    with _over_tls(server) as one, pytest.raises(RegistryError, match="TLS with localhost") as caught:
        one.manifest()
    assert "--plain-http" in (caught.value.hint or "")


def test_from_tls_nobody_sends_us_to_plain_http(serving, certificate, monkeypatch):
    """The certificate is trusted here. Only the redirect is refused."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "crt", certificate / "key")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "crt"))
    plain = serving(lambda peer: peer.request() and peer.send(OK))
    away = f"HTTP/1.1 307 Away\r\nLocation: {plain.url()}\r\nContent-Length: 0\r\n\r\n".encode()
    server = serving(lambda peer: peer.request() and peer.send(away), tls)
    with _over_tls(server) as one, pytest.raises(RegistryError, match="sends us to plain HTTP"):
        one.blob(BLOB, "it")
    assert plain.requests == []


def test_a_registry_that_does_not_speak_http_is_named(serving):
    server = serving(lambda peer: peer.request() and peer.send(b"220 smtp.test ESMTP\r\n"))
    with client(f"127.0.0.1:{server.port}") as one, pytest.raises(RegistryError, match="broke off"):
        one.manifest()
