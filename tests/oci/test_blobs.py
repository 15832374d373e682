"""Downloads and uploads of blobs, also over connections that break."""

from __future__ import annotations

from contextlib import suppress
from threading import Event

import pytest

from host.errors import RegistryError
from host.oci import blobs
from host.oci.documents import Descriptor
from tests.oci.conftest import Steps, client, new_repository

CHUNK = 1000
CONTENT = bytes(range(250)) * 14  # three chunks and a half


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(blobs, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def repository() -> str:
    return new_repository()


def _upload(address, repository, content=CONTENT, progress=None) -> None:
    with client(address, repository=repository) as one:
        one.upload(content, "it", progress)


def _download(address, repository, progress=None, content=CONTENT) -> bytes:
    with client(address, repository=repository) as one:
        return one.download(Descriptor.of(content, "application/wasm"), "it", progress)


def _kept(registry, repository, content=CONTENT) -> bool:
    return _download(registry, repository, content=content) == content


# downloads


def _cutting(times: int):
    """Breaks off the first `times` answers with a blob after half of it."""
    left = [times]

    def behave(visit):
        status, headers, body = visit.upstream()
        if visit.asked.method != "GET" or not left[0]:
            return visit.send(status, headers, body)
        left[0] -= 1
        named = {name.replace("-", "_"): value for name, value in headers.items()}
        return visit.cut(body[: len(body) // 2], length=len(body), status=status, **named)

    return behave


def test_a_download_that_breaks_off_starts_again(registry, relay, repository):
    _upload(registry, repository)
    cut = relay(registry, _cutting(1))
    steps = Steps()
    assert _download(cut.address, repository, steps) == CONTENT
    assert [one.headers.get("Range") for one in cut.asked] == [None, None]
    assert [total for _, total, _ in steps.seen] == [len(CONTENT)] * 2
    assert sum(steps.seen[0][2]) < len(CONTENT)
    assert sum(steps.seen[-1][2]) == len(CONTENT)
    assert steps.ended == 2


def test_after_three_cuts_a_download_has_failed(registry, relay, repository):
    _upload(registry, repository)
    cut = relay(registry, _cutting(3))
    with pytest.raises(RegistryError, match="broke off"):
        _download(cut.address, repository)
    assert len(cut.asked) == 3
    assert _download(cut.address, repository) == CONTENT


def test_a_download_that_drips_is_given_up(relay, timed_from, repository, monkeypatch):
    monkeypatch.setattr(blobs, "_DOWNLOAD_TIMEOUT_S", 0.3)
    given_up = Event()

    def drip(visit):
        visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with suppress(OSError):  # the client leaves
            while not given_up.wait(0.01):
                visit.write(b"a")

    between = relay("", drip)
    steps = Steps()
    timed_from(lambda: bool(steps.seen))
    try:
        with pytest.raises(RegistryError, match="takes more than 0 s, asked to send it"):
            _download(between.address, repository, steps)
        assert len(between.asked) == 1, "it is not asked again"
    finally:
        given_up.set()
    assert steps.ended == 1


def test_an_empty_blob_is_downloaded(registry, repository):
    _upload(registry, repository, b"")
    assert _download(registry, repository, content=b"") == b""


# uploads


def _pieces(relay) -> list[tuple[str, str | None, int]]:
    return [
        (one.method, one.headers.get("Content-Range"), len(one.body))
        for one in relay.asked
        if one.method in ("PATCH", "PUT")
    ]


def _chunk(visit) -> bool:
    return visit.asked.method == "PATCH"


def test_a_large_blob_is_sent_in_chunks(registry, relay, repository):
    between = relay(registry)
    steps = Steps()
    _upload(between.address, repository, progress=steps)
    assert _pieces(between) == [
        ("PATCH", "0-999", CHUNK),
        ("PATCH", "1000-1999", CHUNK),
        ("PATCH", "2000-2999", CHUNK),
        ("PUT", "3000-3499", 500),
    ]
    assert _kept(registry, repository)
    assert sum(steps.seen[0][2]) == len(CONTENT)


def test_a_small_blob_is_sent_whole(registry, relay, repository):
    between = relay(registry)
    _upload(between.address, repository, b"x" * CHUNK)
    assert _pieces(between) == [("PUT", None, CHUNK)]
    assert _kept(registry, repository, b"x" * CHUNK)


def test_what_is_there_is_not_sent_again(registry, relay, repository):
    _upload(registry, repository)
    between = relay(registry)
    _upload(between.address, repository)
    assert [one.method for one in between.asked] == ["HEAD"]


def test_the_least_chunk_that_a_registry_takes_is_respected(registry, relay, repository):
    def behave(visit):
        status, headers, body = visit.upstream()
        more = {"OCI-Chunk-Min-Length": "2000"} if visit.asked.method == "POST" else {}
        visit.send(status, headers | more, body)

    between = relay(registry, behave)
    _upload(between.address, repository)
    assert _pieces(between) == [("PATCH", "0-1999", 2000), ("PUT", "2000-3499", 1500)]


def test_a_connection_that_is_cut_in_mid_upload_continues_where_it_was(registry, relay, repository):
    """The third chunk does not reach the registry."""
    cut = []

    def behave(visit):
        if _chunk(visit) and visit.asked.headers["Content-Range"].startswith("2000-") and not cut:
            cut.append(True)
            return visit.hang_up()
        return visit.forward()

    between = relay(registry, behave)
    steps = Steps()
    _upload(between.address, repository, progress=steps)
    assert cut
    assert between.paths("POST") == [f"/v2/{repository}/blobs/uploads/"]
    assert _pieces(between) == [
        ("PATCH", "0-999", CHUNK),
        ("PATCH", "1000-1999", CHUNK),
        ("PATCH", "2000-2999", CHUNK),
        ("PATCH", "2000-2999", CHUNK),
        ("PUT", "3000-3499", 500),
    ]
    assert len(between.paths("GET")) == 1
    assert _kept(registry, repository)
    assert [sum(advances) for _, _, advances in steps.seen] == [len(CONTENT)]


def test_where_the_registry_has_lost_its_place_the_upload_begins_again(registry, relay, repository):
    """The registry has the second chunk, but its answer is lost: docker-registry then no longer knows the upload."""
    cut = []

    def behave(visit):
        if _chunk(visit) and visit.asked.headers["Content-Range"].startswith("1000-") and not cut:
            cut.append(True)
            visit.upstream()
            return visit.hang_up()
        return visit.forward()

    between = relay(registry, behave)
    steps = Steps()
    _upload(between.address, repository, progress=steps)
    assert len(between.paths("POST")) == 2
    assert _kept(registry, repository)
    assert sum(steps.seen[-1][2]) == len(CONTENT)


def test_an_upload_whose_last_answer_is_lost_is_complete(registry, relay, repository):
    cut = []

    def behave(visit):
        if visit.asked.method == "PUT" and not cut:
            cut.append(True)
            visit.upstream()
            return visit.hang_up()
        return visit.forward()

    between = relay(registry, behave)
    _upload(between.address, repository)
    assert len(between.paths("PUT")) == 1
    assert _kept(registry, repository)


def test_a_chunk_out_of_place_is_sent_from_where_the_registry_is(registry, relay, repository):
    refused = []

    def behave(visit):
        if _chunk(visit) and not refused:
            refused.append(True)
            return visit.answer(416)
        return visit.forward()

    _upload(relay(registry, behave).address, repository)
    assert _kept(registry, repository)


def test_a_registry_that_never_counts_on_does_not_hold_us(registry, relay, repository):
    def behave(visit):
        status, headers, body = visit.upstream()
        visit.send(status, headers | ({"Range": "0-0"} if _chunk(visit) else {}), body)

    with pytest.raises(RegistryError, match="does not count right"):
        _upload(relay(registry, behave).address, repository)


def test_after_three_tries_an_upload_has_failed(registry, relay, repository):
    between = relay(registry, lambda visit: visit.hang_up() if _chunk(visit) else visit.forward())
    with pytest.raises(RegistryError, match="broke off"):
        _upload(between.address, repository)
    assert len(between.paths("PATCH")) == 3


def test_a_registry_that_keeps_other_bytes(registry, relay, repository):
    def behave(visit):
        status, headers, body = visit.upstream()
        visit.send(status, headers | {"Docker-Content-Digest": "sha256:" + "0" * 64}, body)

    with pytest.raises(RegistryError, match="kept something else"):
        _upload(relay(registry, behave).address, repository)


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("", id="nowhere"),
        pytest.param("ftp://registry.test/", id="another protocol"),
    ],
)
def test_an_upload_that_is_sent_nowhere_is_refused(registry, relay, repository, location):
    def behave(visit):
        if visit.asked.method == "POST":
            return visit.send(202, {"Location": location} if location else {}, b"")
        return visit.forward()

    with pytest.raises(RegistryError, match="sends us nowhere"):
        _upload(relay(registry, behave).address, repository)
