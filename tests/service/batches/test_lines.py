"""What a line asks for, and what is checked before anything is sent."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from host.errors import InputError, TooLarge
from host.service.batches import lines
from host.service.batches.lines import BatchLine, check_input, custom_id_of, lines_of, read_request

REQUEST = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "hi"}}


def read(text: str | bytes) -> list[BatchLine]:
    return list(lines_of(io.BytesIO(text.encode() if isinstance(text, str) else text)))


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    found = read(b"\xef\xbb\xbf{}\n\n  \r\n[1]\r\n{}")
    assert found == [BatchLine(1, b"{}"), BatchLine(4, b"[1]"), BatchLine(5, b"{}")]


def test_a_body_keeps_its_text() -> None:
    text = '{"custom_id": "a", "method": "POST", "url": "/v1/x", "body": {"n": 1.0, "seed": 18446744073709551616}}'
    request = read_request(BatchLine(1, text.encode()))
    assert (request.custom_id, request.path) == ("a", "/x")
    assert request.body.text() == '{"n": 1.0, "seed": 18446744073709551616}'


def test_a_stream_that_is_not_asked_for_is_left_out() -> None:
    given = {**REQUEST, "body": {"stream": False, "model": "m"}}
    assert read_request(BatchLine(1, json.dumps(given).encode())).body == {"model": "m"}


def test_an_operation_is_the_input_of_the_catalyst_without_its_id() -> None:
    given = {"custom_id": "b", "operation": "models.list", "params": {"limit": 1}}
    request = read_request(BatchLine(1, json.dumps(given).encode()))
    assert (request.custom_id, request.path) == ("b", "")
    assert request.body == {"operation": "models.list", "params": {"limit": 1}}


def test_a_name_that_a_body_has_twice_is_a_mistake() -> None:
    """Readers differ in which of the two they take."""
    text = '{"custom_id": "a", "method": "POST", "url": "/v1/x", "body": {"model": "a", "model": "b"}}'
    with pytest.raises(InputError, match="line 3"):
        read_request(BatchLine(3, text.encode()))


def test_a_line_that_is_too_long_is_one_mistake_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    long, short = read(b'{"custom_id": "a", "b": "' + b"x" * 500 + b'"}\n{"operation": "o"}\n')
    assert short == BatchLine(2, b'{"operation": "o"}')
    with pytest.raises(TooLarge, match="line 1 is longer"):
        read_request(long)


def test_the_id_of_a_line_that_cannot_be_run_is_told_where_there_is_one() -> None:
    assert custom_id_of(BatchLine(1, b'{"custom_id": "a", "method": "GET"}')) == "a"
    assert custom_id_of(BatchLine(1, b'{"custom_id": 1}')) == ""
    assert custom_id_of(BatchLine(1, b"{")) == ""


def checked(*ids: str) -> lines.Checked:
    text = "".join(json.dumps({**REQUEST, "custom_id": one}) + "\n" for one in ids)
    return check_input(lambda: lines_of(io.BytesIO(text.encode())))


def test_ids_that_are_there_twice_are_named_with_their_lines() -> None:
    with pytest.raises(InputError, match=r"'b' in lines 2, 4; 'c' in lines 3, 5") as raised:
        checked("a", "b", "c", "b", "c")
    assert raised.value.field == "custom_id"


def test_ids_whose_hashes_collide_are_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_hashed", lambda _: 7)
    assert checked("a", "b").lines == 2
    with pytest.raises(InputError, match="'a' in lines 1, 3"):
        checked("a", "b", "a")


def test_lines_that_cannot_be_read_are_counted_and_the_first_is_told() -> None:
    text = b'{"operation": "o"}\n{\n[]\n'
    mistakes: list[int] = []
    found = check_input(lambda: lines_of(io.BytesIO(text)), lambda line, _: mistakes.append(line.number))
    assert (found.lines, found.last, found.unreadable, mistakes) == (3, 3, 2, [2, 3])
    assert "line 2" in str(found.first_mistake)


def test_a_line_more_is_another_input() -> None:
    assert checked("a").digest != checked("a", "b").digest
    assert checked("a", "b").digest == checked("a", "b").digest


def test_the_whole_input_is_never_in_memory() -> None:
    """Lines are read as they are asked for."""

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, *_: int) -> int:
            return 0

        def readinto(self, buffer: bytearray) -> int:
            buffer[:] = (b'{"operation": "o"}\n' * (len(buffer) // 19 + 1))[: len(buffer)]
            return len(buffer)

    found: Iterator[BatchLine] = lines_of(io.BufferedReader(Endless()))
    assert [next(found).number for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("url", ["/v1/embeddings?n=1", "/v1/embeddings#n"])
def test_a_query_in_the_url_is_a_mistake_and_not_dropped(url: str) -> None:
    with pytest.raises(InputError, match="the url has a query"):
        read_request(BatchLine(1, json.dumps({**REQUEST, "url": url}).encode()))
