"""Downloads that break off, and continue where they were."""

from __future__ import annotations

import stat

import pytest

from host.core.names import Digest
from host.errors import RegistryError, StateError
from host.oci.blobs import PartialFile
from host.oci.documents import Descriptor
from tests.oci.conftest import Steps, client, new_repository

CONTENT = bytes(range(256)) * 1000
BLOB = Descriptor.of(CONTENT, "application/wasm")
HALF = len(CONTENT) // 2


@pytest.fixture
def repository(registry) -> str:
    name = new_repository()
    with client(registry, repository=name) as one:
        one.upload(CONTENT, "it")
    return name


def _download(address, repository, folder, progress=None, blob=BLOB) -> bytes:
    with client(address, repository=repository) as one:
        return one.download(blob, folder, "it", progress)


def _ranges(relay) -> list[str | None]:
    return [one.headers.get("Range") for one in relay.asked if one.method == "GET"]


def _cutting(times: int):
    """Breaks off the first `times` answers after HALF of what was asked for."""
    left = [times]

    def behave(visit):
        status, headers, body = visit.upstream()
        if not left[0]:
            return visit.send(status, headers, body)
        left[0] -= 1
        named = {name.replace("-", "_"): value for name, value in headers.items()}
        return visit.cut(body[: len(body) // 2], length=len(body), status=status, **named)

    return behave


def test_a_connection_that_is_cut_in_mid_download_continues_where_it_was(registry, relay, repository, tmp_path):
    cut = relay(registry, _cutting(1))
    steps = Steps()
    assert _download(cut.address, repository, tmp_path, steps) == CONTENT
    assert _ranges(cut) == [None, f"bytes={HALF}-"]
    assert [sum(advances) for _, _, advances in steps.seen] == [len(CONTENT)]


def test_after_three_cuts_the_next_pull_continues(registry, relay, repository, tmp_path):
    cut = relay(registry, _cutting(3))
    with pytest.raises(RegistryError, match="broke off"):
        _download(cut.address, repository, tmp_path)
    partial = tmp_path / BLOB.digest.hex
    assert CONTENT.startswith(partial.read_bytes())
    assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    held = partial.stat().st_size
    assert held > HALF
    assert _download(cut.address, repository, tmp_path) == CONTENT
    assert _ranges(cut)[-1] == f"bytes={held}-"
    assert not partial.exists()


def test_progress_begins_with_what_is_there(registry, repository, tmp_path):
    (tmp_path / BLOB.digest.hex).write_bytes(CONTENT[:HALF])
    steps = Steps()
    assert _download(registry, repository, tmp_path, steps) == CONTENT
    assert steps.seen[0][2][0] == HALF
    assert sum(steps.seen[0][2]) == len(CONTENT)


@pytest.mark.parametrize(
    "partial",
    [
        pytest.param(b"\xff" * HALF, id="another beginning"),
        pytest.param(b"\xff" * len(CONTENT), id="other bytes of the right size"),
        pytest.param(CONTENT + b"!", id="more than there is"),
    ],
)
def test_a_partial_file_that_lies_is_thrown_away(registry, repository, tmp_path, partial):
    (tmp_path / BLOB.digest.hex).write_bytes(partial)
    assert _download(registry, repository, tmp_path) == CONTENT
    assert list(tmp_path.iterdir()) == []


def test_a_partial_file_that_is_complete_costs_no_request(registry, relay, repository, tmp_path):
    (tmp_path / BLOB.digest.hex).write_bytes(CONTENT)
    between = relay(registry)
    assert _download(between.address, repository, tmp_path) == CONTENT
    assert between.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((200, {}, CONTENT), id="the whole blob"),
        pytest.param((416, {}, b""), id="a range that it cannot satisfy"),
        pytest.param(
            (206, {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}, CONTENT), id="another range"
        ),
        pytest.param((206, {}, CONTENT[HALF:]), id="a part of which it does not say where it begins"),
    ],
)
def test_a_registry_that_does_not_continue_is_asked_for_everything(registry, relay, repository, tmp_path, answer):
    (tmp_path / BLOB.digest.hex).write_bytes(CONTENT[:HALF])
    between = relay(registry, lambda visit: visit.send(*answer) if "Range" in visit.asked.headers else visit.forward())
    steps = Steps()
    assert _download(between.address, repository, tmp_path, steps) == CONTENT
    assert sum(steps.seen[-1][2]) == len(CONTENT)


def test_a_link_in_place_of_the_partial_file_is_not_followed(registry, repository, tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    (tmp_path / BLOB.digest.hex).symlink_to(precious)
    with pytest.raises(StateError):
        _download(registry, repository, tmp_path)
    assert precious.read_bytes() == b"mine"


def test_two_downloads_of_the_same_do_not_mix(registry, repository, tmp_path):
    with PartialFile(tmp_path, BLOB.digest), pytest.raises(StateError, match="another process"):
        _download(registry, repository, tmp_path)
    assert _download(registry, repository, tmp_path) == CONTENT


def test_a_folder_that_cannot_be_used_is_named(registry, repository, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file"):
        _download(registry, repository, tmp_path / "file")


def test_an_empty_blob_is_downloaded(registry, repository, tmp_path):
    with client(registry, repository=repository) as one:
        one.upload(b"", "nothing")
    assert _download(registry, repository, tmp_path, blob=Descriptor.of(b"", "x")) == b""


def test_a_partial_file_is_only_handed_out_verified(tmp_path):
    with PartialFile(tmp_path, Digest.of(b"ab")) as partial:
        partial.append(b"a")
        assert partial.verified() is None
        partial.append(b"b")
        assert partial.held == 2
        assert partial.verified() == b"ab"
