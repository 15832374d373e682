"""Where a registry may send its clients: to public addresses, and to its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import httpcore2
import httpx2
import pytest

from host.core.names import Digest
from host.errors import ArtifactError, RegistryError
from host.oci import network
from host.oci.auth import Challenge, _realm
from host.oci.client import RegistryClient
from host.oci.documents import Descriptor, ImageManifest
from host.oci.network import CheckedBackend
from host.oci.reference import OciReference
from tests.oci.conftest import Alice, client

CONTENT = b"some content"
BLOB = Descriptor.of(CONTENT, "application/wasm")
NAMES = {
    "registry.test": ["203.0.114.7"],
    "private.test": ["10.0.0.5"],
    "both.test": ["10.0.0.5", "203.0.114.7"],
    "public.test": ["203.0.114.8", "2606:4700::1"],
    "inside.test": ["10.0.0.6"],
    "self.test": ["127.0.0.1"],
    "same.test": ["10.0.0.5"],
    "some.test": ["203.0.114.8", "10.0.0.6"],
    "metadata.test": ["169.254.169.254"],
    "mapped.test": ["::ffff:10.0.0.6"],
    "six.test": ["fd00::1"],
    "nat64.test": ["64:ff9b::a00:6"],
}


class Sockets(httpcore2.SyncBackend):
    """Notes where it is to connect."""

    def __init__(self) -> None:
        self.dialled: list[tuple[str, int]] = []

    def connect_tcp(self, host, port, *_):
        self.dialled.append((host, port))
        return httpcore2.NetworkStream()


@pytest.fixture
def looked_up(monkeypatch):
    """The names that were looked up."""
    asked: list[str] = []

    def resolver(name):
        asked.append(str(name))
        return [ip_address(text) for text in NAMES[str(name)]]

    monkeypatch.setattr(network, "system_resolver", resolver)
    return asked


def backend(url: str) -> tuple[CheckedBackend, Sockets]:
    made = CheckedBackend(httpx2.URL(url))
    made._sockets = sockets = Sockets()
    return made, sockets


@pytest.mark.usefixtures("looked_up")
@pytest.mark.parametrize(
    ("registry", "host", "port"),
    [
        pytest.param("https://registry.test", "registry.test", 443, id="a public registry itself"),
        pytest.param("https://registry.test:5000", "registry.test", 443, id="another port of it"),
        pytest.param("https://registry.test", "public.test", 443, id="another public place"),
        pytest.param("https://private.test", "private.test", 443, id="a private registry itself"),
        pytest.param("https://private.test", "private.test", 8443, id="another port of it, in its own house"),
        pytest.param("https://private.test", "same.test", 443, id="another name of it"),
        pytest.param("https://private.test", "public.test", 443, id="from a private one to a public place"),
        pytest.param("http://127.0.0.1:5000", "self.test", 5001, id="from this machine to this machine"),
        pytest.param("https://[fd00::1]:5000", "fd00::1", 443, id="IPv6"),
        pytest.param("https://[fd00::1]:5000", "[fd00::1]", 443, id="IPv6 in brackets"),
    ],
)
def test_a_registry_may_send_us_to(registry, host, port):
    made, sockets = backend(registry)
    made.connect_tcp(host, port)
    assert len(sockets.dialled) == 1


@pytest.mark.usefixtures("looked_up")
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.2", "10.0.0.6", "::1", "[::1]", "fe80::1", "fe80::1%lo", "::ffff:127.0.0.1", "0.0.0.0"),
        *("169.254.169.254", "self.test", "inside.test", "some.test", "metadata.test", "mapped.test", "six.test"),
        *("nat64.test", "100.100.100.200", "::", "64:ff9b::7f00:1"),
    ],
)
@pytest.mark.parametrize("registry", ["https://registry.test", "https://private.test:5000", "http://10.0.0.5:5000"])
def test_a_registry_may_not_send_us_to(registry, host):
    made, sockets = backend(registry)
    with pytest.raises(RegistryError, match="address is not public"):
        made.connect_tcp(host, 443)
    assert sockets.dialled == []


@pytest.mark.usefixtures("looked_up")
@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "a..b", "a_b.1", "\uff11\uff12\uff17.0.0.1", ""]
)
def test_what_is_no_name_and_no_address_is_not_given_to_the_system_to_guess(host):
    made, sockets = backend("https://registry.test")
    with pytest.raises(httpcore2.UnsupportedProtocol):
        made.connect_tcp(host, 443)
    assert sockets.dialled == []


def test_a_name_that_changes_its_address_is_not_followed(looked_up, monkeypatch):
    made, sockets = backend("https://registry.test")
    made.connect_tcp("registry.test", 443)
    monkeypatch.setitem(NAMES, "registry.test", ["127.0.0.1"])
    made.connect_tcp("registry.test", 443)
    assert sockets.dialled == [("203.0.114.7", 443)] * 2
    assert looked_up == ["registry.test"]


@pytest.mark.usefixtures("looked_up")
def test_of_several_addresses_the_next_one_is_tried():
    made, sockets = backend("https://both.test")

    def refuse_first(host, port, *_):
        sockets.dialled.append((host, port))
        if len(sockets.dialled) == 1:
            raise httpcore2.ConnectError
        return httpcore2.NetworkStream()

    sockets.connect_tcp = refuse_first
    made.connect_tcp("both.test", 443)
    assert [host for host, _ in sockets.dialled] == NAMES["both.test"]


def test_a_lookup_that_never_ends_ends_in_time(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(network, "system_resolver", lambda name: never.wait())
    made, _ = backend("https://registry.test")
    with pytest.raises(httpcore2.ConnectTimeout):
        made.connect_tcp("registry.test", 443, timeout=0.05)
    never.set()


# through the client, with a registry on this machine and a service at another of its addresses


@pytest.fixture
def service(relay, registry):
    """A service of this machine, at 127.0.0.1, that is no business of the registry's."""
    return relay(registry, lambda visit: visit.send(500, {}, b'{"errors":[{"code":"DENIED","message":"s3cret"}]}'))


@contextmanager
def _elsewhere(front, **more: Any) -> Iterator[RegistryClient]:
    """A client of the registry `front`, for which its name resolves to 127.0.0.9: another address than the service's."""
    with client(f"localhost:{front.address.rpartition(':')[2]}", **more) as one:
        backend = one._exchange._client._transport._pool._network_backend
        backend._found["localhost"] = (ip_address("127.0.0.9"),)
        connect = backend._sockets.connect_tcp
        backend._sockets.connect_tcp = lambda host, *rest: connect(host.replace("127.0.0.9", "127.0.0.1"), *rest)
        yield one


def _sends(relay, registry, answer):
    return relay(registry, lambda visit: answer(visit) if "/v2/" in visit.asked.path else visit.forward())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_blob_that_redirects_to_a_local_service_is_not_fetched(relay, registry, service, status):
    front = _sends(relay, registry, lambda visit: visit.send(status, {"Location": f"http://{service.address}/x"}, b""))
    with _elsewhere(front) as one, pytest.raises(RegistryError, match="not public") as caught:
        one.blob(BLOB, "it")
    assert service.asked == []
    assert "s3cret" not in str(caught.value)


def test_the_second_redirect_is_checked_like_the_first(relay, registry, service):
    def answer(visit):
        place = "/v2/again" if "again" not in visit.asked.path else f"http://{service.address}/x"
        visit.send(307, {"Location": place}, b"")

    front = _sends(relay, registry, answer)
    with _elsewhere(front) as one, pytest.raises(RegistryError, match="not public"):
        one.download(BLOB, "it")
    assert (len(front.asked), service.asked) == (2, [])


@pytest.mark.parametrize("place", ["http://{}/token", "http://user@{}/token", "http://127.0.0.2:{port}/token"])
def test_a_token_realm_at_a_local_service_is_not_asked(relay, registry, service, place):
    realm = place.format(service.address, port=service.address.rpartition(":")[2])
    front = _sends(relay, registry, lambda visit: visit.send(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}, b""))
    who = Alice(front.address)
    with _elsewhere(front, who=who) as one, pytest.raises(RegistryError, match=r"not (public|safe)"):
        one.manifest()
    assert service.asked == []


def test_a_registry_elsewhere_may_not_name_this_machine_for_its_tokens(relay, registry, service):
    """Over plain HTTP, which `--plain-http` allows: the realm is refused before there is a connection."""
    challenge = Challenge("bearer", {"realm": f"http://{service.address}/token"})
    with pytest.raises(RegistryError, match="not safe"):
        _realm(challenge, httpx2.URL("http://registry.test/v2/a"))


def test_an_upload_that_goes_on_at_a_local_service_is_not_sent(relay, registry, service):
    def answer(visit):
        if visit.asked.method == "POST":
            return visit.send(202, {"Location": f"http://{service.address}/upload"}, b"")
        return visit.send(404, {}, b"")

    front = _sends(relay, registry, answer)
    with _elsewhere(front) as one, pytest.raises(RegistryError, match="not public"):
        one.upload(CONTENT, "it")
    assert service.asked == []


def test_a_next_page_at_another_place_is_not_asked_for(relay, registry, service):
    index = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    headers = {
        "Content-Type": "application/vnd.oci.image.index.v1+json",
        "Link": f'<http://{service.address}/v2/next>; rel="next"',
    }
    front = _sends(relay, registry, lambda visit: visit.send(200, headers, index))
    with client(front.address) as one:
        assert list(one.referrers(Digest.of(b"x"), "application/x")) == []
    assert service.asked == []


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
def test_what_a_service_answers_is_in_no_error(relay, registry, status):
    """Also where the redirect is allowed, to another port of the registry's own address."""
    words = b'{"errors":[{"code":"s3cret","message":"s3cret"}], "s3cret": 1, "s3cret": 2}'
    other = relay(registry, lambda visit: visit.send(status, {"WWW-Authenticate": 'Basic realm="s3cret"'}, words))
    front = _sends(relay, registry, lambda visit: visit.send(307, {"Location": f"http://{other.address}/"}, b""))
    with client(front.address) as one, pytest.raises(RegistryError) as caught:
        one.blob(BLOB, "it")
    assert other.asked
    assert "s3cret" not in repr(caught.value) + str(caught.value.hint)


def test_what_a_token_service_answers_is_in_no_error(relay, registry):
    other = relay(registry, lambda visit: visit.send(200, {}, b'{"token": "s3cret\\n", "s3cret": 1}'))
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{other.address}/token"'}
    front = _sends(relay, registry, lambda visit: visit.send(401, challenge, b""))
    with client(front.address) as one, pytest.raises(RegistryError) as caught:
        one.manifest()
    assert other.asked
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [], "layers": []}',
        '{"schemaVersion": 2, "mediaType": "x", "media\\u0054ype": "application/vnd.oci.image.manifest.v1+json"}',
    ],
)
def test_a_document_that_has_a_name_twice_is_refused(text):
    with pytest.raises(ArtifactError, match="twice in one object"):
        ImageManifest.parse(text.encode())


def test_no_digest_of_theirs_is_in_an_error():
    text = '{"mediaType": "x", "digest": "sha256:s3cret", "size": 1}'
    with pytest.raises(ArtifactError) as caught:
        Descriptor.parse(json.loads(text), "it")
    assert "s3cret" not in str(caught.value)


def test_a_header_that_claims_another_digest_is_not_quoted(relay, registry):
    front = _sends(relay, registry, lambda visit: visit.send(200, {"Docker-Content-Digest": "sha256:s3cret"}, b"{}"))
    with client(front.address) as one, pytest.raises(RegistryError) as caught:
        one.manifest()
    assert "s3cret" not in str(caught.value)


def test_the_registry_of_a_reference_is_the_one_that_may_be_private():
    one = RegistryClient(OciReference.parse("oci://[::1]:5000/a"))
    backend = one._exchange._client._transport._pool._network_backend
    assert backend._registry == ("::1", 5000)
    one.close()
