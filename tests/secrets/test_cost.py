"""What a search costs: the same for every text of a kind, whether it nearly holds a secret or not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from host.secrets import redaction
from host.secrets.redaction import Redactor
from host.secrets.value import SecretValue
from tests.benchmarks.redaction import KEYS, UNITS, compared, redactor, sample

MOST = 40  # times a loop that looks at each byte once; a megabyte of that takes 25 ms and more


@pytest.fixture(scope="module")
def twenty_keys() -> Redactor:
    return redactor()


@pytest.mark.parametrize("name", UNITS)
def test_a_text_made_to_be_slow_costs_a_few_looks_at_each_byte(twenty_keys: Redactor, name: str) -> None:
    data = sample(name, 128 * 1024)
    assert any(compared(twenty_keys, data) < MOST for _ in range(5)), "of times that another program may stretch"


@pytest.mark.parametrize("name", UNITS)
def test_the_deadline_is_looked_at_within_every_few_kilobytes(twenty_keys: Redactor, name: str) -> None:
    class Over(Exception):
        pass

    asked = itertools.count(1)

    def check() -> None:
        if next(asked) == 3:
            raise Over

    data = sample(name, 128 * 1024)
    with pytest.raises(Over):
        twenty_keys.data(data, check)
    assert len(data) // redaction._PIECE > 3


class Counted(frozenset[bytes]):
    """A set of windows that counts what is asked of it."""

    asked = 0

    def isdisjoint(self, other: object) -> bool:
        assert isinstance(other, tuple)
        Counted.asked += len(other)
        return super().isdisjoint(other)


def work(redact: Redactor, monkeypatch: pytest.MonkeyPatch, data: bytes) -> tuple[int, int, list[int]]:
    """How many windows were looked up for `data`, how many hits were worked on, and the lengths of the readings."""
    Counted.asked, hits, lengths = 0, 0, list[int]()
    all_readings, in_runs = redaction.readings, redaction._in_runs

    def read(text: bytes, least: int, **how: bool) -> list[redaction.Reading]:
        found = all_readings(text, least, **how)
        lengths.extend(len(one.text) for one in found)
        return found

    def counted(*arguments: object) -> Iterator[object]:
        nonlocal hits
        hits += 1
        return in_runs(*arguments)  # type: ignore[arg-type]

    for windows in redact._scanner._all:
        windows.known = Counted(windows.known)
    monkeypatch.setattr(redaction, "readings", read)
    monkeypatch.setattr(redaction, "_in_runs", counted)
    redact.data(data)
    monkeypatch.undo()
    return Counted.asked, hits, lengths


KEY, OTHER = KEYS[0], "sk-proj-" + KEYS[1][8:]


@pytest.mark.parametrize("known", [0, 1, 5, 10, 11])
@pytest.mark.parametrize("many", [1, 5_000])
@pytest.mark.parametrize("kind", ["plain", "hex", "percent"])
def test_a_guest_that_times_the_search_of_its_guesses_measures_the_same_for_right_and_wrong_ones(
    known: int, many: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same windows are looked up, of the same readings, and nothing else is done, whichever secret is in place."""
    guess = f"<{KEY[: 8 + known]}>"
    spelled = {"plain": guess, "hex": guess.encode().hex(), "percent": "".join(f"%{ord(c):02x}" for c in guess)}[kind]
    data = (spelled + " ").encode() * many
    done = [work(Redactor({"x": SecretValue(value)}), monkeypatch, data) for value in (KEY, OTHER)]
    assert done[0] == done[1]
    assert done[0][1] == 0


def test_control_a_right_window_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert work(Redactor({"x": SecretValue(KEY)}), monkeypatch, KEY[:20].encode())[1] > 0
    assert work(Redactor({"x": SecretValue(OTHER)}), monkeypatch, KEY[:20].encode())[1] == 0
