"""The lines of a batch, in two forms that may be mixed, and the checks of a whole input before anything is sent.

A request of OpenAI's batches (platform.openai.com/docs/api-reference/batch/request-input):

    {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": {…}}

An operation, as `host run --input` takes it, with or without a `custom_id`:

    {"operation": "chat.completions.create", "params": {…}}
"""

from __future__ import annotations

import codecs
import hashlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Final

from host.core.fields import did_you_mean
from host.core.repeating import OWN_KEY
from host.core.strict_json import WrittenObject, as_written, kind_of, parse_json
from host.errors import InputError, TooLarge
from host.service.principal import MAX_VALUES

LONGEST_LINE: Final = 64 * 1024 * 1024  # bytes, as a server takes in one request
LONGEST_ID: Final = 512  # characters of a custom_id
PREFIX: Final = "/v1"

_REQUEST: Final = ("custom_id", "method", "url", "body")
_BUCKETS: Final = 256
_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A line as it was written. `number` counts all lines of the input from 1, those without content too."""

    number: int
    text: bytes


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What a line asks for: with a `path`, which begins behind `/v1`, a request of OpenAI's form with `body` as its
    JSON; without one an operation, of which `body` is the whole input."""

    custom_id: str
    path: str
    body: WrittenObject


def read_request(line: BatchLine) -> BatchRequest:
    """Raises InputError, which names the line; TooLarge."""
    what = f"line {line.number}"
    if len(line.text) > LONGEST_LINE:
        raise TooLarge(f"{what} is longer than {LONGEST_LINE} bytes")
    given = WrittenObject.read(line.text, what, most=MAX_VALUES)
    custom_id = given.get("custom_id", "")
    if not isinstance(custom_id, str) or len(custom_id) > LONGEST_ID:
        raise InputError(f"{what}: custom_id is no text of at most {LONGEST_ID} characters", field="custom_id")
    if "operation" in given and "url" not in given:
        return BatchRequest(custom_id, "", _operation(given, what))
    if "url" not in given and "body" not in given:
        raise InputError(
            f"{what} is neither a request nor an operation",
            hint="a request has custom_id, method, url and body; an operation has operation and params",
        )
    return BatchRequest(custom_id, *_request(given, what))


def custom_id_of(line: BatchLine) -> str:
    """Of a line that cannot be read, as far as it can; "" where it cannot."""
    try:
        found = parse_json(line.text[:LONGEST_LINE], "the line", most=MAX_VALUES)
    except InputError:
        return ""
    custom_id = found.get("custom_id") if isinstance(found, dict) else None
    return custom_id if isinstance(custom_id, str) and len(custom_id) <= LONGEST_ID else ""


def _operation(given: WrittenObject, what: str) -> WrittenObject:
    if given.get("stream") is True:
        raise _no_streams(what)
    found = given.changed({name: one for name, one in given.items() if name != "custom_id"})
    if isinstance(params := given.within("params", what), WrittenObject):
        if params.get("stream") is True:
            raise _no_streams(what)
        found["params"] = params
    return found


def _request(given: WrittenObject, what: str) -> tuple[str, WrittenObject]:
    for name in given:
        if name not in _REQUEST:
            hint = did_you_mean(name, _REQUEST, f"a request has {', '.join(_REQUEST)}")
            raise InputError(f"{what}: a request has no {name[:80]!r}", field=name[:80], hint=hint)
    if not given.get("custom_id"):
        raise InputError(f"{what}: a request has a custom_id", field="custom_id")
    if given.get("method") != "POST":
        raise InputError(f"{what}: the method has to be POST", field="method")
    url = given.get("url")
    if not isinstance(url, str) or not url.startswith(f"{PREFIX}/"):
        raise InputError(f"{what}: the url has to begin with {PREFIX}/", field="url", hint="like /v1/chat/completions")
    if "?" in url or "#" in url:
        raise InputError(f"{what}: the url has a query, which no request of a batch takes", field="url")
    if (body := given.within("body", what)) is None:
        raise InputError(f"{what}: the body is a JSON {kind_of(given.get('body'))}, not an object", field="body")
    if body.get("stream") is True:
        raise _no_streams(what)
    plain = as_written({name: one for name, one in body.items() if name != "stream"}, body)
    assert isinstance(plain, WrittenObject), "it is as the body is"
    return url.removeprefix(PREFIX), plain


def _no_streams(what: str) -> InputError:
    return InputError(f"{what}: a batch has no streams", field="stream", hint="leave out `stream`")


def lines_of(file: IO[bytes]) -> Iterator[BatchLine]:
    """The lines with content, from the beginning of `file`. Of one that is too long, so much that it shows."""
    file.seek(0)
    number = 0
    while text := file.readline(LONGEST_LINE + 2):
        number += 1
        if not text.endswith(b"\n") and len(text) > LONGEST_LINE:
            while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
        if number == 1:
            text = text.removeprefix(codecs.BOM_UTF8)
        if stripped := text.strip():
            yield BatchLine(number, stripped)


@dataclass(frozen=True, slots=True)
class Checked:
    """A whole input: its SHA-256 in hex, how many lines have content, the number of the `last`, and how many of them
    cannot be read. `first_mistake` is about the first of these."""

    digest: str
    lines: int
    last: int
    unreadable: int = 0
    first_mistake: InputError | None = field(default=None, compare=False)


def check_input(
    lines: Callable[[], Iterable[BatchLine]],
    mistake: Callable[[BatchLine, InputError], object] = lambda *_: None,
    also: Callable[[BatchLine, BatchRequest], object] = lambda *_: None,
) -> Checked:
    """Read all of an input, which `lines` returns from its beginning; `mistake` is called with each line that cannot be
    read, or that `also` raises InputError for. A custom_id takes eight bytes of memory. Raises InputError, with the
    numbers of the lines, where two lines have the same custom_id."""
    total, ids = _Digest(), [array("Q") for _ in range(_BUCKETS)]
    count = last = unreadable = 0
    first: InputError | None = None
    for line in lines():
        total.add(line)
        count, last = count + 1, line.number
        try:
            request = read_request(line)
            also(line, request)
        except InputError as error:
            unreadable += 1
            first = first or error
            mistake(line, error)
            continue
        if request.custom_id:
            ident = _hashed(request.custom_id)
            ids[ident % _BUCKETS].append(ident)
    if candidates := _twice(ids):
        _refuse_duplicates(lines(), candidates)
    return Checked(total.hex(), count, last, unreadable, first)


def unfinished(lines: Iterable[BatchLine], checked: Checked, is_done: Callable[[int], bool]) -> Iterator[BatchLine]:
    """Those of the lines that are not done, of an input that was `checked`. Raises InputError where it was changed
    meanwhile: at its end, or where it is longer."""
    total = _Digest()
    for line in lines:
        total.add(line)
        if line.number > checked.last:
            break
        if not is_done(line.number):
            yield line
    if total.hex() != checked.digest:
        raise InputError("the input was changed while it was read", hint="begin anew, with another --output")


class _Digest:
    """SHA-256 of lines with their numbers."""

    def __init__(self) -> None:
        self._total = hashlib.sha256()

    def add(self, line: BatchLine) -> None:
        self._total.update(b"%d:%d:" % (line.number, len(line.text)) + line.text)

    def hex(self) -> str:
        return self._total.hexdigest()


def _hashed(custom_id: str) -> int:
    """Not by Python's own hash, for which somebody could find texts that collide."""
    text = custom_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _twice(ids: Iterable[array[int]]) -> set[int]:
    found = set()
    for bucket in ids:
        before = -1
        for ident in sorted(bucket):
            if ident == before:
                found.add(ident)
            before = ident
    return found


def _refuse_duplicates(lines: Iterable[BatchLine], candidates: set[int]) -> None:
    """Raises InputError where ids are the same, and not their hashes alone."""
    where: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        try:
            custom_id = read_request(line).custom_id
        except InputError:
            continue
        if custom_id and _hashed(custom_id) in candidates and len(where[custom_id]) < _MOST_NAMED:
            where[custom_id].append(line.number)
    said = [f"{one[:80]!r} in lines {', '.join(map(str, at))}" for one, at in where.items() if len(at) > 1]
    if said:
        more = f", and {len(said) - _MOST_NAMED} more" if len(said) > _MOST_NAMED else ""
        raise InputError(
            f"a custom_id is there twice: {'; '.join(said[:_MOST_NAMED])}{more}",
            field="custom_id",
            hint="give each line its own: the answers are told apart by it",
        )


def idempotency_key(batch: str, number: int) -> str:
    """The same whenever this line of this batch is run."""
    return f"{OWN_KEY}{batch}_{number}"
