"""Registries that do what the specification allows, and docker-registry does not: what is pushed to them is pulled."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import pytest

from host.core.names import Digest
from host.errors import RegistryError
from host.oci import blobs
from host.oci.documents import IMAGE_INDEX
from tests.oci.conftest import Visit, new_repository
from tests.oci.test_transfer import WASM, bundle, pulled, pushed

Behave = Callable[[Visit], None]
Headers = dict[str, str]


def answering(change: Callable[[Visit, int, Headers, bytes], tuple[int, Mapping[str, str], bytes]]) -> Behave:
    """Docker-registry's answers after `change`."""

    def behave(visit: Visit) -> None:
        visit.send(*change(visit, *visit.upstream()))

    return behave


def refusing(status: int, *methods: str, also: Callable[[Visit], bool] = lambda _: True) -> Behave:
    """Answers requests with such a method by `status`."""

    def behave(visit: Visit) -> None:
        if visit.asked.method in methods and also(visit):
            return visit.answer(status)
        return visit.forward()

    return behave


def with_status(method: str, status: int, *, of: str = "/") -> Behave:
    def change(visit: Visit, answered: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        changed = visit.asked.method == method and of in visit.asked.path and answered < 300
        return (status if changed else answered), headers, body

    return answering(change)


def with_headers(change: Callable[[Headers], Headers], *, of: str = "/") -> Behave:
    return answering(
        lambda visit, status, headers, body: (status, change(headers) if of in visit.asked.path else headers, body)
    )


def without(*names: str) -> Callable[[Headers], Headers]:
    return lambda headers: {name: value for name, value in headers.items() if name.lower() not in names}


def coded(name: str, encode: Callable[[bytes], bytes], *, of: str) -> Behave:
    """Compresses bodies, though nothing asked for it."""

    def change(visit: Visit, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        if visit.asked.method != "GET" or of not in visit.asked.path or status != 200:
            return status, headers, body
        return status, {**headers, "Content-Encoding": name}, encode(body)

    return answering(change)


def located(change: Callable[[Visit, str], str]) -> Behave:
    def behave(visit: Visit) -> None:
        status, headers, body = visit.upstream()
        if "Location" in headers:
            headers["Location"] = change(visit, headers["Location"])
        visit.send(status, headers, body)

    return behave


def relative(visit: Visit, location: str) -> str:
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def redirecting(status: int, *methods: str) -> Behave:
    """Sends each request to the same path below `/moved`, and answers there."""

    def behave(visit: Visit) -> None:
        if visit.asked.path.startswith("/moved"):
            object.__setattr__(visit.asked, "path", visit.asked.path.removeprefix("/moved"))
            return visit.forward()
        if visit.asked.method in methods:
            return visit.answer(status, Location=f"/moved{visit.asked.path}")
        return visit.forward()

    return behave


def one_place() -> Behave:
    """Says only at an upload's start where the pieces go. (Docker-registry keeps its state in the place: here it is
    remembered.)"""
    latest: dict[str, str] = {}

    def behave(visit: Visit) -> None:
        place = visit.asked.path.partition("?")[0]
        if place in latest:
            _, _, digest = visit.asked.path.partition("digest=")
            object.__setattr__(visit.asked, "path", latest[place] + (f"&digest={digest}" if digest else ""))
        status, headers, body = visit.upstream()
        if "Location" in headers and "/uploads/" in headers["Location"]:
            latest[urlsplit(headers["Location"]).path] = relative(visit, headers["Location"])
        visit.send(status, without("location")(headers) if visit.asked.method == "PATCH" else headers, body)

    return behave


def paged_referrers(pages: list[int]) -> Behave:
    """A referrers API that has one entry a page, linked as some registries do: relative, and `next` without quotes."""

    def behave(visit: Visit) -> None:
        parts = urlsplit(visit.asked.path)
        if "/referrers/" not in parts.path:
            return visit.forward()
        subject = parts.path.rpartition(":")[2]
        at = int(parts.query.partition("page=")[2] or 0)
        pages.append(at)
        asked = visit.asked
        object.__setattr__(asked, "path", f"{parts.path.partition('/referrers/')[0]}/manifests/sha256-{subject}")
        status, _, body = visit.upstream()
        entries = json.loads(body)["manifests"] if status == 200 else []
        index = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": entries[at : at + 1]}
        more = {"Link": f"<{parts.path}?page={at + 1}>; rel=next"} if at + 1 < len(entries) else {}
        return visit.send(200, {"Content-Type": f"{IMAGE_INDEX}; charset=utf-8", **more}, json.dumps(index).encode())

    return behave


def tokens(answer: dict[str, object]) -> Behave:
    def behave(visit: Visit) -> None:
        if visit.asked.path.startswith("/token"):
            return visit.send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())
        if visit.asked.headers.get("Authorization") != "Bearer T0ken":
            realm = f"http://{visit.asked.headers['Host']}/token"
            return visit.send(401, {"WWW-Authenticate": f'bearer Realm="{realm}" , service=srv'}, b"")
        return visit.forward()

    return behave


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def is_blob(visit: Visit) -> bool:
    return "/blobs/sha256:" in visit.asked.path


ODD = {
    "no HEAD": refusing(405, "HEAD"),
    "HEAD not implemented": refusing(501, "HEAD"),
    "HEAD of a blob forbidden, as where a storage signs URLs for GET": refusing(403, "HEAD", also=is_blob),
    "missing blobs answered with 401": answering(
        lambda visit, status, headers, body: (
            401 if is_blob(visit) and status == 404 else status, without("www-authenticate")(headers), body
        )
    ),
    "missing blobs answered with 403": answering(
        lambda visit, status, headers, body: (403 if is_blob(visit) and status == 404 else status, headers, body)
    ),
    "200 at an upload's end": with_status("PUT", 200),
    "202 at an upload's end": with_status("PUT", 202),
    "204 at an upload's end": with_status("PUT", 204),
    "gzip of everything": coded("gzip", gzip.compress, of="/"),
    "gzip of blobs": coded("x-gzip", gzip.compress, of="/blobs/"),
    "deflate of blobs": coded("deflate", zlib.compress, of="/blobs/"),
    "bare deflate of manifests": coded("deflate", raw_deflate, of="/manifests/"),
    "identity, said": coded("identity", bytes, of="/"),
    "an empty coding": coded("", bytes, of="/blobs/"),
    "relative locations": located(relative),
    "absolute locations": located(lambda visit, place: f"http://{visit.asked.headers['Host']}{relative(visit, place)}"),
    "locations with a query of their own": located(
        lambda _, place: f"{place}{'&' if '?' in place else '?'}signature=a%2Fb+c%3D%3D&flag"
    ),
    "no digest in answers": with_headers(without("docker-content-digest")),
    "digests of another algorithm": with_headers(
        lambda headers: {**headers, "Docker-Content-Digest": "sha512:" + "0" * 128}
    ),
    "manifests with a charset": with_headers(
        lambda headers: {**headers, "Content-Type": f"{headers.get('Content-Type', '')}; charset=utf-8"},
        of="/manifests/",
    ),
    "manifests as a server of files has them": with_headers(
        lambda headers: {**headers, "Content-Type": "application/octet-stream"}, of="/manifests/"
    ),
    "manifests as JSON": with_headers(
        lambda headers: {**headers, "Content-Type": "application/json"}, of="/manifests/"
    ),
    "manifests of no type": with_headers(without("content-type"), of="/manifests/"),
    "reads moved with 307": redirecting(307, "GET", "HEAD"),
    "reads moved with 308": redirecting(308, "GET", "HEAD"),
    "all moved with 308": redirecting(308, "GET", "HEAD", "POST", "PUT", "PATCH"),
    "all moved with 307": redirecting(307, "GET", "HEAD", "POST", "PUT", "PATCH"),
    "a token": tokens({"token": "T0ken"}),
    "an access token": tokens({"access_token": "T0ken", "expires_in": 300}),
    "an access token beside an empty one": tokens({"token": "", "access_token": "T0ken"}),
    "an access token beside a null": tokens({"token": None, "access_token": "T0ken"}),
    "nothing in one piece": refusing(
        411, "PUT", also=lambda visit: "/uploads/" in visit.asked.path and bool(visit.asked.body)
    ),
    "no method for one piece": refusing(
        405, "PUT", also=lambda visit: "/uploads/" in visit.asked.path and bool(visit.asked.body)
    ),
    "referrers not implemented": refusing(501, "GET", also=lambda visit: "/referrers/" in visit.asked.path),
    "referrers not acceptable": refusing(406, "GET", also=lambda visit: "/referrers/" in visit.asked.path),
}  # fmt: skip


@pytest.mark.parametrize("behave", [pytest.param(behave, id=name) for name, behave in ODD.items()])
def test_what_is_pushed_to_an_odd_registry_is_pulled_from_it(registry, relay, behave):
    repository = new_repository()
    odd = relay(registry, behave)
    digest = pushed(odd.address, repository, tag=":1", bundles=[bundle("a")])
    found = pulled(odd.address, repository, ":1")
    assert (found.wasm, found.digest, found.bundles) == (WASM, digest, (bundle("a"),))


def test_signatures_on_several_pages_are_all_found(registry, relay):
    repository = new_repository()
    pushed(registry, repository, bundles=[bundle("a"), bundle("b"), bundle("c")])
    pages: list[int] = []
    odd = relay(registry, paged_referrers(pages))
    assert pulled(odd.address, repository).bundles == (bundle("a"), bundle("b"), bundle("c"))
    assert pages == [0, 1, 2]


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(refusing(405, "PATCH"), id="no PATCH"),
        pytest.param(refusing(501, "PATCH"), id="PATCH not implemented"),
        pytest.param(refusing(404, "PATCH"), id="PATCH not found"),
        pytest.param(with_status("PATCH", 200), id="200 for a piece"),
        pytest.param(with_status("PATCH", 204), id="204 for a piece"),
        pytest.param(with_headers(without("range")), id="no range"),
        pytest.param(one_place(), id="no place for the next piece"),
        pytest.param(redirecting(307, "PATCH"), id="pieces moved"),
    ],
)  # fmt: skip
def test_large_content_goes_to_a_registry_in_the_way_that_it_knows(registry, relay, monkeypatch, behave):
    monkeypatch.setattr(blobs, "CHUNK_BYTES", 40_000)
    repository = new_repository()
    pushed(relay(registry, behave).address, repository)
    assert pulled(registry, repository).wasm == WASM


def test_a_blob_that_is_stored_compressed_is_what_its_digest_says(registry, relay):
    """Some storages label a compressed blob with its coding: the digest is then of the bytes as they are sent."""
    packed = gzip.compress(WASM)
    repository = new_repository()
    pushed(registry, repository, wasm=packed)
    labelled = relay(registry, with_headers(lambda headers: {**headers, "Content-Encoding": "gzip"}, of="/blobs/"))
    assert Digest.of(pulled(labelled.address, repository).wasm) == Digest.of(packed)


def test_a_blob_that_gets_large_when_it_is_decoded_is_refused(registry, relay):
    repository = new_repository()
    pushed(registry, repository)
    bomb = gzip.compress(b" " * 50_000_000)
    evil = relay(registry, coded("gzip", lambda _: bomb, of=f"/blobs/{Digest.of(WASM)}"))
    with pytest.raises(RegistryError, match="sent other bytes than"):
        pulled(evil.address, repository)


def test_a_coding_that_is_damaged_is_named(registry, relay):
    repository = new_repository()
    pushed(registry, repository)
    broken = relay(registry, coded("gzip", lambda body: b"\x1f\x8b\x08" + body, of="/manifests/"))
    with pytest.raises(RegistryError, match="sent what cannot be decoded, asked to send the manifest"):
        pulled(broken.address, repository)


def test_an_upload_that_was_accepted_and_not_kept_has_failed(registry, relay):
    def behave(visit: Visit) -> None:
        if visit.asked.method == "PUT" and "/uploads/" in visit.asked.path:
            return visit.answer(202)
        return visit.forward()

    with pytest.raises(RegistryError, match="has not kept the component"):
        pushed(relay(registry, behave).address, new_repository())


def test_a_signature_of_another_tool_travels_as_it_is(registry):
    older = json.dumps({"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2", "messageSignature": {}})
    repository = new_repository()
    pushed(registry, repository, bundles=[older])
    assert pulled(registry, repository).bundles == (older,)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_registry_that_cannot_be_reached_beside_a_proxy_names_the_variable(monkeypatch, name):
    monkeypatch.setenv(name, "http://user:password@proxy.test:3128")
    with pytest.raises(RegistryError) as caught:
        pulled("registry.invalid", "a")
    said = str(caught.value)
    assert said.count(name) == 1
    assert "proxies are not used here" in said
    assert "password" not in said
