"""The one way to an upstream and back, for every capability that sends requests.

parse → method, domain → body → size → how many, how often → audit → `Upstream.send` → an `UpstreamAnswer`
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from functools import partial

from host.capabilities.message import GuestError, RequestMessage, read_body, read_message
from host.capabilities.rate import RateMeter
from host.capabilities.upstream import RawAnswer, Upstream, UpstreamRequest, check_size, subject
from host.core.sliding_window import RequestLimiter
from host.egress import EgressError
from host.egress.headers import Fields
from host.errors import Refusal
from host.policy.permissions import Deny, Grant, decide, deny_address
from host.policy.urls import Target
from host.run import Run

_PIECE_BYTES = 64 * 1024


class UpstreamAnswer:
    """An answer that has begun, in the only form that a capability gets: redacted, metered, and with a GuestError for
    whatever goes wrong, its refusal recorded. Belongs to one run; to be closed.

    `headers` have lower-case names; values of one name are joined by `, `. `ended` says that there is no more to read:
    at the end of the body, after a failure and after `close`.
    """

    def __init__(self, run: Run, raw: RawAnswer, failed: Callable[[EgressError], GuestError]) -> None:
        """`failed` makes the GuestError of what went wrong."""
        self.status = raw.status
        self.headers = _joined(run, raw.headers)
        self.ended = False
        self._run = run
        self._raw = raw
        self._failed = failed
        self._redacted = run.redactor.stream()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def read(self) -> bytes:
        """The next bytes as soon as there are some; empty at the end. Raises GuestError."""
        while not self.ended:
            if data := self._next():
                return data
        return b""

    def read_text(self) -> str:
        """The next text as soon as there is some, never cut within a character; empty at the end. What is not UTF-8
        becomes U+FFFD. Raises GuestError."""
        while not self.ended:
            data = self._next()
            if text := self._decoder.decode(data, final=self.ended):
                return text
        return ""

    def read_all(self) -> bytes:
        """The rest of the body; the answer is closed then. Raises GuestError."""
        pieces = []
        try:
            while not self.ended:
                pieces.append(self._next())
        finally:
            self.close()
        return b"".join(pieces)

    def close(self) -> None:
        """Any number of times."""
        self.ended = True
        self._raw.close()

    def _next(self) -> bytes:
        began = time.monotonic()
        try:
            piece = self._raw.read(self._run, _PIECE_BYTES)
            self._run.meters.received_bytes += len(piece)
            if piece:
                return self._redacted.feed(piece)
            self.ended = True
            return self._redacted.flush()
        except EgressError as error:
            self.close()
            raise self._failed(error) from None
        finally:
            self._run.meters.upstream_time_s += time.monotonic() - began


class Exchange:
    """One catalyst's requests: its grant, where they go, and its rate, which `limiter` counts if there is one."""

    def __init__(self, grant: Grant, upstream: Upstream, limiter: RequestLimiter | None = None) -> None:
        self.grant = grant
        self._upstream = upstream
        self._meter = RateMeter(grant.reference, grant.rate, limiter)

    def begin(self, run: Run, text: str) -> tuple[RequestMessage, UpstreamAnswer]:
        """Send the request that the guest's message `text` describes. Returns the message and the answer, which is to
        be closed. Raises GuestError, with any refusal recorded."""
        try:
            message = read_message(text)
            request = self._allowed(run, message)
        except GuestError as error:
            raise recorded(run, error) from None
        failed = partial(self._failed, run, message.target)
        try:
            return message, UpstreamAnswer(run, self._upstream.send(run, request), failed)
        except EgressError as error:
            raise failed(error) from None
        except GuestError as error:
            raise recorded(run, error) from None

    def _allowed(self, run: Run, message: RequestMessage) -> UpstreamRequest:
        """The request of `message`, decided, counted and recorded. Raises GuestError."""
        target = message.target
        decision = decide(target, message.method, self.grant)
        if isinstance(decision, Deny):
            raise GuestError.denied(decision, subject(message.method, target))
        check = partial(check_size, self.grant, message.method, target)
        body, content_type = read_body(message, run.attachments, check)
        check(len(body))
        self._check_count(run, message)
        shown = {"method": message.method, "url": target.shown, "request_bytes": len(body)}
        destination = self.grant.destination(target)
        if destination is not target:
            shown["sent_to"] = destination.origin
        run.audit("http.request", "allow", decision.rule, shown)
        headers = message.headers
        if content_type:
            others = (field for field in headers if field[0].lower() != "content-type")
            headers = (*others, ("Content-Type", content_type))
        return UpstreamRequest(message.method, target, destination, headers, body)

    def _check_count(self, run: Run, message: RequestMessage) -> None:
        most = self.grant.limits.max_http_requests
        if run.meters.http_requests >= most:
            remedy = f"raise max_http_requests in the policy of {self.grant.reference}"
            raise GuestError.refused(Refusal("rate_limited", "http requests", f"a run may make {most}", remedy))
        rate = self.grant.rate
        if rate is not None and (wait := self._meter.take()) is not None:
            rule = f"over {rate.requests} requests in {rate.window_s:g} s: retry after {wait:.1f} s"
            remedy = f"or raise rate_limit in the policy of {self.grant.reference}"
            raise GuestError.refused(Refusal("rate_limited", subject(message.method, message.target), rule, remedy))
        run.meters.http_requests += 1

    def _failed(self, run: Run, target: Target, error: EgressError) -> GuestError:
        """The GuestError for `error`; a recorded refusal where a policy could allow what failed."""
        match error.kind:
            case "private_ip_blocked":
                return recorded(
                    run, GuestError.denied(deny_address(target.at, error.message, self.grant), target.shown)
                )
            case "response_too_large":
                remedy = f"raise max_response_size in the policy of {self.grant.reference}"
                refusal = Refusal(error.kind, target.shown, error.message, remedy)
                return recorded(run, GuestError.refused(refusal))
            case _:
                return GuestError("timeout" if error.kind == "cancelled" else error.kind, error.message)


def recorded(run: Run, error: GuestError) -> GuestError:
    """`error`, once its refusal, if it has one, is recorded."""
    if error.refusal is not None:
        run.refuse("http.request", error.refusal)
    return error


def _joined(run: Run, headers: Fields) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    redacted: dict[str, str] = run.redactor.json(joined)
    return redacted
