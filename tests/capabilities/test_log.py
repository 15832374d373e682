"""`catalyst:host/log`: words for the operator, redacted and capped."""

from __future__ import annotations

import pytest

from host import Host, errors
from host.core.limits import Limits
from tests.probing import TOKEN, calls, probe


def logged(host: Host, *listed: list[str], **options: object) -> list[tuple[str, str]]:
    result = probe(host, **options).run(calls(*listed))
    return [(line.level, line.message) for line in result.execution.logs]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_a_message_keeps_its_level(host: Host, level: str) -> None:
    assert logged(host, ["log.write", level, "words"]) == [(level, "words")]


@pytest.mark.parametrize("level", ["", "shout", "ERROR", "\x1b[31m", "x" * 10_000])
def test_an_unknown_level_is_info(host: Host, level: str) -> None:
    assert logged(host, ["log.write", level, "words"]) == [("info", "words")]


def test_a_secret_in_a_message_shows_as_its_placeholder(host: Host) -> None:
    [(_, message)] = logged(host, ["log.write", "info", f"key is {TOKEN}!"], secrets={"TOKEN": TOKEN})
    assert message.startswith("key is host-secret-")
    assert TOKEN not in message


def test_messages_are_capped_and_what_was_dropped_is_counted(host: Host) -> None:
    most = Limits().max_log_bytes
    result = probe(host).run(calls(["log.write", "info", "x" * 1000], repeat=most // 1000 + 10))
    assert sum(len(line.message) for line in result.execution.logs) == most
    assert result.execution.meters.log_bytes == (most // 1000 + 10) * 1000


def test_a_last_word_becomes_the_exception_of_a_run_that_traps(host: Host) -> None:
    words = '{"exception": "KeyError", "message": "no such", "traceback": "line 7"}'
    with pytest.raises(errors.GuestException) as ended:
        probe(host).run(calls(["log.write", "fatal", words], **{"return": 5}))
    assert (ended.value.exception, ended.value.traceback) == ("KeyError", "line 7")
    assert "no such" in ended.value.message


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("not JSON", id="no JSON"),
        pytest.param("[1]", id="a list"),
        pytest.param("[" * 100_000, id="deep nesting"),
        pytest.param(r'{"exception": "\ud800", "message": "\udfff", "traceback": 5}', id="lone surrogates"),
        pytest.param('{"exception": ["x"], "message": {"a": NaN}}', id="other types and NaN"),
        pytest.param('{"exception": "' + "x" * 100_000 + '"}', id="a very long name"),
    ],
)
def test_a_last_word_of_any_shape_can_be_shown(host: Host, words: str) -> None:
    with pytest.raises(errors.GuestException) as ended:
        probe(host).run(calls(["log.write", "fatal", words], **{"return": 5}))
    shown = str(ended.value)
    assert shown.encode("utf-8")
    assert len(shown) < 2_000


def test_a_last_word_holds_no_secret(host: Host) -> None:
    words = f'{{"exception": "E", "message": "{TOKEN}", "traceback": "{TOKEN}"}}'
    with pytest.raises(errors.GuestException) as ended:
        probe(host, secrets={"TOKEN": TOKEN}).run(calls(["log.write", "fatal", words], **{"return": 5}))
    assert TOKEN not in repr(ended.value.as_dict())
