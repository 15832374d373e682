"""Operations of several requests: how often one looks, and how a large file is cut."""

import base64
import json

import pytest

REQUESTS = 64  # that a run may make if its policy does not say otherwise


class Session:
    """Answers with `status` until the waits are `pending_ms` together."""

    def __init__(self, pending_ms, status="in_progress"):
        self.sizes = {}
        self.asked = []
        self.waited = []
        self.pending_ms = pending_ms
        self.status = status

    def ask(self, operation, params, after_ms=0):
        self.asked.append(operation)
        self.waited += [after_ms] if after_ms else []
        status = self.status if sum(self.waited) < self.pending_ms else "completed"
        return {"status": 200, "data": {"id": "x", "thread_id": "t", "status": status}}


@pytest.fixture
def perform(guest):
    helpers = guest("helpers").HELPERS

    def run(operation, params, session):
        return helpers[operation](session, params)

    return run


FILES = {"vector_store_id": "v", "files": [{"data": "YQ=="}] * 15}


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("vector_stores.files.poll", {"vector_store_id": "v", "file_id": "f"}),
        ("vector_stores.files.upload_and_poll", {"vector_store_id": "v", "file": {"data": "YQ=="}}),
        ("vector_stores.file_batches.upload_and_poll", FILES),
        ("videos.create_and_poll", {"prompt": "p", "poll_interval_ms": 1_000}),
        ("batches.poll", {"batch_id": "b"}),
    ],
)
def test_work_that_takes_five_minutes_is_waited_for_with_the_requests_of_one_run(perform, operation, params):
    session = Session(300_000)
    assert perform(operation, params, session)["data"]["status"] == "completed"
    assert len(session.asked) < REQUESTS


def test_a_wait_is_even_at_first_and_never_longer_than_the_longest(perform):
    session = Session(20_000_000)
    perform("batches.poll", {"batch_id": "b"}, session)
    assert session.waited[:20] == [1_000] * 20
    assert session.waited == sorted(session.waited)
    assert session.waited[20] > 1_000
    assert session.waited[-1] == 600_000


@pytest.fixture
def uploading(guest):
    """The helper, with parts of at most 30 bytes if the caller does not say how large they are."""
    helpers = guest("helpers")
    assert helpers.PART_SIZE * 4 / 3 <= 32 * 1024 * 1024, "also in base64 a part is within the default limit"
    helpers.PART_SIZE = 30
    return helpers.HELPERS["uploads.upload_file_chunked"]


UPLOAD = {"mime_type": "text/plain", "purpose": "user_data", "filename": "a.txt"}


def test_a_file_is_cut_into_parts_that_a_request_has_room_for(uploading):
    session = Session(0)
    session.sizes = {"a": 100}
    uploading(session, {"file": {"$attachment": "a"}, **UPLOAD})
    assert session.asked == ["uploads.create", *["uploads.parts.create"] * 4, "uploads.complete"]


def test_a_caller_may_choose_larger_parts(uploading):
    session = Session(0)
    uploading(
        session, {"file": {"data": base64.b64encode(bytes(100)).decode()}, "part_size": 64 * 1024 * 1024, **UPLOAD}
    )
    assert session.asked.count("uploads.parts.create") == 1


def test_a_part_of_a_file_is_refused_and_not_taken_for_the_whole(call, world):
    file = {"$attachment": "a", "range": [0, 10]}
    result = call("uploads.upload_file_chunked", {"file": file, "bytes": 100, **UPLOAD})
    assert (result["status"], result["error"]["param"]) == (400, "file")
    assert world.requests == []


def test_a_callers_project_does_not_stand_beside_the_operators(guest, world):
    world.settings = {"project": "ours"}
    world.answer("{}")
    document = {"operation": "models.list", "headers": {"OPENAI-Project": "theirs"}}
    assert json.loads(guest("app").Run().run(json.dumps(document)))["status"] == 200
    sent = [value for name, value in world.requests[0]["headers"].items() if name.lower() == "openai-project"]
    assert sent == ["ours"]
