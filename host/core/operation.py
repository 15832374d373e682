"""What goes into a run and what comes out of it: Operation, Attachment and Result (wit/README.md: An operation, and
Attachments)."""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from host.core.audit import Event, LogLine, Meters
from host.core.strict_json import (
    MAX_DEPTH,
    Json,
    WrittenObject,
    check_depth,
    clean_text,
    count_values,
    foreign_text,
    parse_foreign,
    parse_json,
    survey,
)
from host.errors import InputError, OperationFailed, OutputInvalid, OutputTooLarge, Refusal, TooLarge

_HEADER_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]{0,254}[!-~])?\Z")
_MAX_HEADERS = 16

MAX_OUTPUT_VALUES = 2_000_000
"""Of JSON: those of a guest's output and of all documents that it stands for, together."""
UNREAD_BYTES = 1 << 20
"""A document that is all of an output's data, and longer, is checked and not kept in memory as values."""
_SHOWN_BYTES = 200  # of what should have been JSON


@dataclass(frozen=True, slots=True)
class Attachment:
    """Bytes with a file name and a type. `content_type` is a media type such as `audio/mpeg`, or empty."""

    data: bytes = field(repr=False)
    filename: str = ""
    content_type: str = ""

    @classmethod
    def read(cls, path: str | Path) -> Attachment:
        """The file at `path`, under its own name; the type is guessed from the name. Raises InputError."""
        file = Path(path)
        try:
            data = file.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the attachment {str(path)!r}: {error.strerror}") from error
        import mimetypes  # noqa: PLC0415 - only files need it

        return cls(data, file.name, mimetypes.guess_type(file.name)[0] or "application/octet-stream")

    @classmethod
    def of(cls, given: object) -> Attachment:
        """The Attachment of bytes, a path, or an Attachment. Raises InputError for anything else."""
        match given:
            case Attachment():
                return given
            case bytes() | bytearray() | memoryview():
                return cls(bytes(given))
            case Path():
                return cls.read(given)
        raise InputError(
            f"an attachment cannot be made of {type(given).__name__}",
            hint="hand over bytes, a pathlib.Path or an Attachment",
        )


class Attachments:
    """The attachments of one run: they end with it, and no other run can name them."""

    def __init__(self, max_bytes: int) -> None:
        self._held: dict[str, Attachment] = {}
        self._room = max_bytes

    def put(self, attachment: Attachment) -> str | None:
        """The id under which the run now has it; None when it is over `max_attachment_bytes`."""
        if len(attachment.data) > self._room:
            return None
        self._room -= len(attachment.data)
        name = "att_" + secrets.token_hex(16)
        self._held[name] = attachment
        return name

    def get(self, name: object) -> Attachment | None:
        return self._held.get(name) if isinstance(name, str) else None

    @property
    def room(self) -> int:
        """The bytes that there is still room for."""
        return self._room

    def snapshot(self) -> Mapping[str, Attachment]:
        return dict(self._held)


@dataclass(frozen=True, slots=True)
class Operation:
    """One input of a catalyst: the operation's name (`chat.completions.create`), its parameters, and with `stream` the
    wish for events as they arrive."""

    operation: str
    params: Mapping[str, Json] = field(default_factory=dict)
    stream: bool = False

    def as_dict(self) -> dict[str, Json]:
        return {"operation": self.operation, "params": dict(self.params), "stream": self.stream}


Input: TypeAlias = Operation | Mapping[str, Json] | str | bytes


def read_input(given: Input) -> dict[str, Json]:
    """The JSON object that `given` is or holds. The `params` of a text know how they were written. Raises
    InputError."""
    if isinstance(given, Operation):
        return given.as_dict()
    if isinstance(given, Mapping):
        return dict(given)
    found = WrittenObject.read(given, "the input")
    return with_written_params(found)


def with_written_params(found: WrittenObject) -> WrittenObject:
    """An input of which the `params` know how they were written, too. Raises InputError."""
    if (params := found.within("params", "the input")) is not None:
        found["params"] = params
    return found


class Mention(dict[str, Json]):
    """`{"$attachment": name}` that the host itself put in place of a caller's file. The same in a caller's data is
    data."""

    def __init__(self, name: str) -> None:
        super().__init__({"$attachment": name})


def no_room(what: str, size: int) -> TooLarge:
    """The error for an attachment that a run has no room for."""
    return TooLarge(
        f"{what}, of {size} bytes, is over max_attachment_bytes, which counts all attachments of a run together",
        hint="send less in one run",
    )


def write_input(
    value: Mapping[str, Json], held: Attachments, given: Mapping[str, Attachment], *, mentions: bool = False
) -> str:
    """The guest's input as text: `value`, with the run's own id for each attachment in place of `{"$attachment":
    name}`; with `mentions` in place of a Mention alone. Raises InputError, also for an attachment that the input does
    not mention: it would be lost silently."""
    if mentions and not given:
        return _written(value)
    ids: dict[str, Json] = {}
    for name, attachment in given.items():
        if (ident := held.put(attachment)) is None:
            raise no_room(f"the attachment {name!r}", len(attachment.data))
        shown = {"$attachment": ident}
        if attachment.filename:
            shown["filename"] = attachment.filename
        if attachment.content_type:
            shown["content_type"] = attachment.content_type
        ids[name] = shown
    check_depth(value, "the input")
    if ids and isinstance(value.get("operation"), str) and "attachments" not in value:
        sizes = {str(shown["$attachment"]): len(given[name].data) for name, shown in ids.items()}
        value = {**value, "attachments": {ident: {"size": size} for ident, size in sizes.items()}}
    used: set[str] = set()
    text = _written(value)
    if ids or '"$attachment"' in text:
        text = _written(_with_ids(value, ids, used, "", mentions))
    for name in ids.keys() - used:
        raise InputError(
            f"the attachment {name!r} is not used by the input",
            field=name,
            hint=f'put {{"$attachment": "{name}"}} where it belongs',
        )
    return text


def _written(value: Mapping[str, Json]) -> str:
    try:
        if isinstance(params := value.get("params"), WrittenObject):
            others = {name: one for name, one in value.items() if name != "params"}
            rest = json.dumps(others, ensure_ascii=False, allow_nan=False)[1:]
            return '{"params": ' + params.text() + (", " if others else "") + rest
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the input is not JSON: {error}") from None


def _with_ids(value: Json, ids: Mapping[str, Json], used: set[str], path: str, mentions: bool) -> Json:
    match value:
        case {"$attachment": name, **more} if not mentions or isinstance(value, Mention):
            if not isinstance(name, str) or name not in ids:
                raise InputError(
                    f"there is no attachment {name!r}",
                    field=path,
                    hint="hand it over as attachments={…} or --attach NAME=FILE",
                )
            used.add(name)
            return {**ids[name], **more}
        case Mapping():
            return {
                key: _with_ids(inner, ids, used, f"{path}.{key}" if path else str(key), mentions)
                for key, inner in value.items()
            }
        case list() | tuple():
            return [_with_ids(inner, ids, used, f"{path}[{index}]", mentions) for index, inner in enumerate(value)]
    return value


@dataclass(frozen=True, slots=True)
class Execution:
    """The record of one run. `started_at` is Unix time, `duration_s` wall clock. `decisions` are its audit events,
    `refusals` its denied requests and secrets, `logs` the messages of the guest (redacted, capped)."""

    id: str
    reference: str
    digest: str
    started_at: float
    duration_s: float
    meters: Meters
    decisions: tuple[Event, ...]
    refusals: tuple[Refusal, ...]
    logs: tuple[LogLine, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Result:
    """`data` of a success, `error` of a failure; `status` is an HTTP status. `{"$attachment": id}` in `data` stands for
    `attachments[id]`. `headers` are the headers of the upstream's answer that the catalyst passed on (`retry-after`),
    in lower case. `document` is the JSON text of `data`, if the catalyst passed on a whole document unread: the bytes
    that came, of the type `content_type`; of a failure, the body with its `error`. A long one, and one that strict
    readers refuse (NaN, 1e400, 300 levels, Latin-1, a byte order mark), is parsed when `data` is first asked for, as
    Python's own reader would. That raises InputError for one of too many values or levels; `brief` has its short
    entries."""

    status: int
    data: Json
    error: Json
    attachments: Mapping[str, Attachment]
    execution: Execution
    headers: Mapping[str, str] = field(default_factory=dict)
    document: bytes | None = field(default=None, repr=False)
    brief: Json = field(default=None, repr=False, compare=False)
    content_type: str = field(default="", repr=False, compare=False)

    if not TYPE_CHECKING:  # a type checker is to know each attribute by its name

        def __getattr__(self, name: str) -> Json:
            """Called for what is not there: the data of an unread document."""
            if name != "data":
                raise AttributeError(name)
            data = parse_foreign(self.document or b"", "the result")
            object.__setattr__(self, "data", data)
            return data

    @property
    def known(self) -> Json:
        """`data`, as far as it is known without reading a long document: see `brief`."""
        return self.data if self.brief is None else self.brief

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def content(self) -> bytes:
        """The bytes of a binary answer: `data` is one attachment. Raises InputError for any other result."""
        match self.data:
            case {"$attachment": str(ident)} if ident in self.attachments:
                return self.attachments[ident].data
        raise InputError("the result is not binary", hint="see .data and .attachments")

    def raise_for_status(self) -> None:
        """Raises OperationFailed for a failure."""
        if not self.ok:
            raise OperationFailed(self)

    def as_dict(self) -> dict[str, Json]:
        """`{"status", "data"}` or `{"status", "error"}`."""
        return {"status": self.status, **({"data": self.data} if self.ok else {"error": self.error})}


def strict_data(result: Result) -> Json:
    """The result's `data`, to be put into a larger JSON document: one that strict readers refuse is `{"raw": text}`."""
    if result.brief is None or result.document is None:
        return result.data
    try:
        return parse_json(result.document, "the result")
    except InputError:
        return {"raw": clean_text(foreign_text(result.document))}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A guest's output, read; as in Result. `attachments` are the ones it mentions."""

    status: int
    data: Json
    error: Json
    attachments: Mapping[str, Attachment]
    headers: Mapping[str, str] = field(default_factory=dict)
    document: bytes | None = None
    brief: Json = None
    content_type: str = ""

    def result(self, execution: Execution) -> Result:
        """The Result with this outcome, and with `execution` as its record."""
        result = Result(
            self.status,
            self.data,
            self.error,
            self.attachments,
            execution,
            headers=self.headers,
            document=self.document,
            brief=self.brief,
            content_type=self.content_type,
        )
        if self.brief is not None:
            object.__delattr__(result, "data")
        return result


def read_output(
    text: str, held: Attachments, *, most_bytes: int = sys.maxsize, check: Callable[[], object] | None = None
) -> Outcome:
    """The Outcome in a guest's output. Text that is not JSON is `{"raw": text}`. Raises OutputInvalid for what is JSON
    but for a number that JSON has not, or is nested too deeply; OutputTooLarge where the text stands for more than
    `most_bytes` of documents and repeated attachments, or for more than MAX_OUTPUT_VALUES; and what `check` does, which
    is called in between where there is much to read."""
    try:
        value = parse_json(text, "the output", most=MAX_OUTPUT_VALUES, check=check)
    except InputError as strict:
        _check_no_json(text, strict, check)
        return Outcome(200, {"raw": clean_text(text)}, None, {})
    mentioned: dict[str, Attachment] = {}
    if '"$' in text:
        if (whole := _whole_document(value, held)) is not None:
            return _of_document(whole, value["status"], _headers(value.get("headers")), check)
        splicer = _Splicer(held, MAX_OUTPUT_VALUES - count_values(text), most_bytes, check)
        value = splicer.spliced(value, MAX_DEPTH)
        mentioned = splicer.mentioned
    if not isinstance(value, dict):
        return Outcome(200, value, None, mentioned)
    status = value.get("status")
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
        status = 500 if "error" in value else 200
        return (
            Outcome(status, None, value["error"], mentioned)
            if "error" in value
            else Outcome(200, value, None, mentioned)
        )
    headers = _headers(value.get("headers"))
    if 200 <= status < 300:
        return Outcome(status, value.get("data"), None, mentioned, headers)
    error, body = value.get("error"), value.get("body")
    if error is None:
        error = {"type": "error", "message": f"status {status}"}
    document = body.encode("utf-8", "replace") if isinstance(body, str) and body.lstrip().startswith("{") else None
    return Outcome(status, None, error, mentioned, headers, document)


def _check_no_json(text: str, error: InputError, check: Callable[[], object] | None) -> None:
    """Raises OutputInvalid for a list or an object that a tolerant reader would take. `error` is the strict one's."""
    if not text.lstrip().startswith(("[", "{")):
        return
    try:
        survey(text, "the output", check or _go_on)
    except InputError:
        return
    raise OutputInvalid(f"the guest put out what is not quite JSON: {error.message}")


def _of_document(
    found: Attachment, status: int, headers: Mapping[str, str], check: Callable[[], object] | None
) -> Outcome:
    """A document that is all of a success's data passes through as it came. What is no JSON at all makes it a failure
    of the upstream: the guest has promised JSON."""
    document, kind = found.data, found.content_type
    if len(document) <= UNREAD_BYTES:
        try:
            return Outcome(status, parse_json(document, "it"), None, {}, headers, document, content_type=kind)
        except InputError:
            pass  # other readers may take it
    try:
        brief = survey(document, "it", check or _go_on)
    except InputError as unread:
        return _no_json(found, status, headers, unread)
    return Outcome(
        status, None, None, {}, headers, document, brief if isinstance(brief, dict) else {}, content_type=kind
    )


def _no_json(found: Attachment, status: int, headers: Mapping[str, str], error: InputError) -> Outcome:
    kind = found.content_type.partition(";")[0].strip()[:80] or "a body without a type"
    shown = foreign_text(found.data[:_SHOWN_BYTES])
    said = f"the upstream answered {status}, and its answer ({kind}, {len(found.data)} bytes) is not JSON"
    said += f"; it begins with {shown!r}" if shown else ""
    shown_error = {"type": "upstream_error", "code": "not_json", "message": f"{said} ({error.message})"}
    return Outcome(502, None, shown_error, {}, {**headers, _AGAIN: "false"})


_AGAIN = "x-should-retry"  # OpenAI's SDKs obey it: what has done its work would do it again, and cost as much


def _go_on() -> None:
    """For those who have no end to look out for."""


def _headers(given: Json) -> Mapping[str, str]:
    """Those that can be written to the wire; the rest is passed over."""
    if not isinstance(given, dict) or len(given) > _MAX_HEADERS:
        return {}
    pairs = ((name, value) for name, value in given.items() if isinstance(value, str))
    return {name: value for name, value in pairs if _HEADER_NAME.match(name) and _HEADER_VALUE.match(value)}


def _whole_document(value: Json, held: Attachments) -> Attachment | None:
    """The document that is all of a success's `data`."""
    match value:
        case {"status": int(status), "data": {"$json": str(ident), **more}} if not more and 200 <= status < 300:
            return held.get(ident)
    return None


class _Splicer:
    """Puts documents where a guest's output names them: each once, at its first mention, so that a short output cannot
    stand for more than the run may hold. `most_values` and `most_bytes` are for all of them together."""

    def __init__(
        self, held: Attachments, most_values: int, most_bytes: int, check: Callable[[], object] | None
    ) -> None:
        self.mentioned: dict[str, Attachment] = {}
        self._held = held
        self._values = most_values
        self._bytes = most_bytes
        self._check = check
        self._spliced: set[str] = set()
        self._seen = 0  # lists and objects

    def spliced(self, value: Json, depth: int) -> Json:
        """`value`, a list or an object of at most `depth` levels, with documents in it."""
        self._seen += 1
        if self._check is not None and not self._seen & 0xFF:
            self._check()
        match value:
            case {"$json": str(ident)} if ident not in self._spliced and (found := self._held.get(ident)) is not None:
                self._spliced.add(ident)
                return self._document(found.data, depth)
            case {"$attachment": ident} if (found := self._held.get(ident)) is not None:
                if ident in self.mentioned:
                    self._take(0, len(found.data))
                self.mentioned[ident] = found
            case dict():
                return {
                    key: self.spliced(inner, depth - 1) if isinstance(inner, dict | list) else inner
                    for key, inner in value.items()
                }
            case list():
                return [self.spliced(inner, depth - 1) if isinstance(inner, dict | list) else inner for inner in value]
        return value

    def _document(self, data: bytes, depth: int) -> Json:
        most, found = self._values, count_values(data)
        self._take(min(most, found), len(data))
        try:
            value = parse_json(data, "the answer", most=most, check=self._check)
            if data.count(b"[") + data.count(b"{") > depth:
                check_depth(value, "the answer", depth)
        except InputError:
            if found > most:
                self._take(found, 0)
            return {"raw": data.decode("utf-8", "replace")}
        return value

    def _take(self, values: int, size: int) -> None:
        self._values -= values
        self._bytes -= size
        if self._values < 0 or self._bytes < 0:
            raise OutputTooLarge(
                f"the documents and attachments in the output are more than {MAX_OUTPUT_VALUES:,} values, or than "
                "max_output_size allows",
                hint="a document that is all of the data may be larger",
            )
