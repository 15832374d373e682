"""Scripted faults: rules that apply, in order, to the requests that they match."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from itertools import chain, repeat
from typing import Any, Self

from host.errors import InputError
from host.fakes.messages import Delivery, FakeRequest, FakeResponse
from host.fakes.openai.errors import standard

_BLOCK = 64 * 1024
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, section 5.6.2
_FRAMING = {"content-length", "transfer-encoding"}
_FIELD_VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?\Z")


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule: the requests that it matches, their number, and the changes to the answer.

    `status` (with OpenAI's error body for it), `body`, `body_bytes`, `redirect` and `echo_authorization` replace the
    fake's own answer. The other fields change the answer or its delivery. Times are in seconds. Raises InputError for
    an invalid value.
    """

    method: str | None = None  # any
    path: str = "/v1/*"  # a glob in which * also spans slashes
    times: int | None = 1  # None: until the script is cleared
    status: int | None = None
    body: Any = None  # a string is sent as text, anything else as JSON
    body_bytes: int | None = None  # a body of this many spaces, generated while it is sent
    redirect: str | None = None  # the Location of a 302, or of `status`
    echo_authorization: bool = False  # the request's Authorization value in the body, for tests of redaction
    headers: Mapping[str, str] = field(default_factory=dict)  # added to the answer's headers, or replacing them
    malformed_json: bool = False  # the body loses its second half
    gzip: int = 0  # the number of compressions of the body, whatever Accept-Encoding says
    content_length: int | None = None  # the declared length, whatever the true one; the connection then closes
    delay_s: float = 0.0  # before the status line
    event_delay_s: float = 0.0  # before each event of a stream
    drip_s: float | None = None  # one byte per write, with this pause before each
    cut_before_headers: bool = False  # the connection closes without an answer
    cut_after_bytes: int | None = None  # of the body, then the connection closes
    cut_after_events: int | None = None  # of a WebSocket its messages
    close_code: int | None = None  # with which a WebSocket closes then, not breaking off; 1005: with none

    def __post_init__(self) -> None:
        for name, (kinds, least) in _EXPECTED.items():
            value = getattr(self, name)
            right = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
            if not right or (isinstance(value, int | float) and not value >= least):
                raise InputError(f"a fault cannot have {name} = {value!r}"[:200], field=name)
        if not all(isinstance(text, str) for pair in self.headers.items() for text in pair):
            raise InputError("a fault's headers are strings", field="headers")
        if not all(_TOKEN.match(name) and _FIELD_VALUE.match(value) for name, value in self.headers.items()):
            raise InputError("a fault's headers can be written to the wire", field="headers")
        if _FRAMING & {name.lower() for name in self.headers}:
            raise InputError("a fault's headers leave the framing alone", field="headers", hint="see content_length")
        if not _FIELD_VALUE.match(self.redirect or ""):
            raise InputError("a redirect can be written to the wire", field="redirect")
        if self.status is not None and self.status > 599:
            raise InputError(f"{self.status} is not an HTTP status", field="status")

    @classmethod
    def from_dict(cls, rule: Any) -> Self:
        """From the fields by name, as in JSON. Raises InputError, also for an unknown field."""
        if not isinstance(rule, Mapping):
            raise InputError("a fault is an object", field="faults")
        known = [one.name for one in fields(cls)]
        if unknown := set(rule).difference(known):
            name = str(min(unknown, key=str))
            raise InputError(f"a fault has no field {name[:80]!r}", field=name, hint="one of " + ", ".join(known))
        return cls(**rule)

    def as_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        blank = asdict(Fault())
        return {name: value for name, value in asdict(self).items() if value != blank[name]}

    def matches(self, request: FakeRequest) -> bool:
        return self.method in {None, request.method} and fnmatchcase(request.path, self.path)

    def answer(self, request: FakeRequest) -> FakeResponse | None:
        """Returns the answer that replaces the fake's own, if any."""
        if self.redirect is not None:
            return FakeResponse(self.status or 302, {"location": self.redirect})
        if self.echo_authorization:
            return self._echo_authorization(request.headers.get("authorization", ""))
        if self.body_bytes is not None:
            blocks, rest = divmod(self.body_bytes, _BLOCK)
            content = chain(repeat(b" " * _BLOCK, blocks), [b" " * rest] if rest else [])
            return FakeResponse(self.status or 200, {"content-type": "application/json"}, content)
        if isinstance(self.body, str):
            return FakeResponse(self.status or 200, {"content-type": "text/plain; charset=utf-8"}, self.body.encode())
        if self.body is not None:
            return FakeResponse.json(self.body, self.status or 200)
        return None if self.status is None else standard(self.status).response()

    def _echo_authorization(self, authorization: str) -> FakeResponse:
        if self.status is None or self.status < 400:
            return FakeResponse.json({"authorization": authorization}, self.status or 200)
        shown = standard(self.status).body()
        shown["error"]["message"] += f" You sent: {authorization}"
        return FakeResponse.json(shown, self.status)

    def apply(self, response: FakeResponse) -> FakeResponse:
        """Returns `response` with the rule's changes and delivery."""
        body, headers = response.body, dict(response.headers)
        if self.malformed_json:
            whole = body if isinstance(body, bytes) else b"".join(body)
            body = whole[: len(whole) // 2]
        if self.gzip:
            body = body if isinstance(body, bytes) else b"".join(body)
            for _ in range(self.gzip):
                body = gzip.compress(body, mtime=0)
            headers["content-encoding"] = ", ".join(["gzip"] * self.gzip)
        headers |= {name.lower(): value for name, value in self.headers.items()}
        return FakeResponse(response.status, headers, body, self.delivery)

    @property
    def delivery(self) -> Delivery:
        return Delivery(**{known.name: getattr(self, known.name) for known in fields(Delivery)})


# For each field its types, and its minimum if it is a number.
_NONE = type(None)
_EXPECTED: dict[str, tuple[tuple[type, ...], float]] = {
    "method": ((str, _NONE), 0),
    "path": ((str,), 0),
    "times": ((int, _NONE), 1),
    "status": ((int, _NONE), 200),
    "body_bytes": ((int, _NONE), 0),
    "redirect": ((str, _NONE), 0),
    "echo_authorization": ((bool,), 0),
    "headers": ((Mapping,), 0),
    "malformed_json": ((bool,), 0),
    "gzip": ((int,), 0),
    "content_length": ((int, _NONE), 0),
    "delay_s": ((int, float), 0),
    "event_delay_s": ((int, float), 0),
    "drip_s": ((int, float, _NONE), 0),
    "cut_before_headers": ((bool,), 0),
    "cut_after_bytes": ((int, _NONE), 0),
    "cut_after_events": ((int, _NONE), 0),
    "close_code": ((int, _NONE), 1000),
}


class FaultScript:
    """The remaining rules. Tests write, the server's thread reads."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Fault]:
        with self._lock:
            return iter(list(self._rules))

    def extend(self, rules: Iterable[Fault]) -> None:
        new = list(rules)
        with self._lock:
            self._rules += new

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def take(self, request: FakeRequest) -> Fault | None:
        """Returns the first rule that matches, and decrements its `times`."""
        with self._lock:
            for at, rule in enumerate(self._rules):
                if rule.matches(request):
                    left = None if rule.times is None else rule.times - 1
                    self._rules[at : at + 1] = [] if left == 0 else [replace(rule, times=left)]
                    return rule
        return None
