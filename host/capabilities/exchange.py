"""The one way to an upstream and back, for every capability that sends requests.

parse → method, domain → body → size → where to, how many, how often → audit → `Upstream.send` → an `UpstreamAnswer`
"""

from __future__ import annotations

import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from host.capabilities.attempts import A, Attempts, Entered
from host.capabilities.failed import failed, recorded
from host.capabilities.message import (
    BodyDecoder,
    GuestError,
    RequestMessage,
    check_no_override,
    check_not_moved,
    check_size,
    joined,
    read_body,
    read_message,
    subject,
    unformed,
)
from host.capabilities.rate import RateMeter
from host.capabilities.secrets import unobtained
from host.capabilities.upstream import NotAsked, RawAnswer, Upstream, UpstreamRequest
from host.core.headers import (
    CREDENTIALS,
    HEADER,
    METHOD_OVERRIDES,
    SPELLING,
    methods_in_fields,
    secret_header,
    spelled,
)
from host.core.names import SecretName
from host.core.repeating import IDEMPOTENT, cause_of_status
from host.core.sliding_window import RequestLimiter
from host.core.strict_json import Json, json_bytes
from host.egress import Deadline, EgressClient, EgressError, Outgoing
from host.egress.headers import Fields
from host.errors import InputError, Refusal
from host.policy.document import METHODS, SecretGrant
from host.policy.permissions import Deny, Grant, binding_remedy, decide
from host.policy.urls import Origin, Target, UrlError, reference_at
from host.run import Run
from host.secrets.charsets import MARKED, CharsetRedactor, charset_of
from host.secrets.redaction import Redactor, StreamRedactor
from host.secrets.value import PLACEHOLDER_PREFIX, SecretValue, Substitution

_utf_8_decoder = getincrementaldecoder("utf-8")

_PIECE_BYTES = 64 * 1024
_ERRORS = 400  # and above: statuses of errors
_OF_THE_BODY = ("http_error", "response_too_large")  # failures after which the status still counts
_MOST_NAMED = 5  # headers in one refusal
_MOST_ORIGINS = 1_000  # remembered: with a domain like *.example.com a guest can name any number


class UpstreamAnswer:
    """An answer that has begun, in the only form that a capability gets: redacted, metered, and with a GuestError for
    whatever goes wrong, its refusal recorded. Belongs to one run; to be closed.

    It is searched for the secrets that its upstream gets in requests for any origin, whether this run has sent them or
    not: it may show an earlier request. It is not searched for other secrets. The upstream cannot have them, and a
    search would tell a guest that owns it whether it guessed one. `headers` have lower-case names; values of one name
    are joined by `, `. `ended` says that there is no more to read: at the end of the body, after a failure and after
    `close`.

    The body of an error is read as a whole. Where it cannot be read, an error object that says why stands in its place.
    """

    def __init__(
        self, run: Run, raw: RawAnswer, redactor: Redactor, failed: Callable[[EgressError], GuestError]
    ) -> None:
        """`redactor` knows the secrets of the origin. `failed` makes the GuestError of what went wrong. Raises
        GuestError, with the answer closed, for one that cannot be searched."""
        self.status = raw.status
        self.headers = joined(redactor, raw.headers)
        self.ended = False
        self._run = run
        self._raw = raw
        self._failed = failed
        self._redactor = redactor
        self.searched_for_all = redactor is run.redactor  # those of the run, as it is read
        self._redacted: StreamRedactor | CharsetRedactor = redactor.stream()
        self._begun = not redactor.searches
        self._is_error, self._unreadable = raw.status >= _ERRORS, ""
        if redactor.searches and "charset" in (kind := self.headers.get("content-type", "").lower()):
            try:
                charset = charset_of(kind)
            except InputError as error:
                if not self._is_error:
                    raw.close()
                    raise GuestError("http_error", error.message) from None
                charset, self._unreadable = None, error.message
            if charset is not None:
                self._redacted = CharsetRedactor(redactor, charset)
        events = self.headers.get("content-type", "").lower().startswith("text/event-stream")
        self._decoder = _utf_8_decoder("replace") if events else BodyDecoder()  # of events the standard decides

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def read(self) -> bytes:
        """The next bytes as soon as there are some; empty at the end. Raises GuestError."""
        while not self.ended:
            if data := self._next():
                return data
        return b""

    def read_text(self, rest: Deadline | None = None, kept: list[bytes] | None = None) -> str:
        """The next text as soon as there is some, never cut within a character; empty at the end. See BodyDecoder;
        events are UTF-8, with U+FFFD for what is none.
        `kept` gets the bytes. `rest` is the time for what may follow an answer that is whole: the end of that time and
        a failure are then ends like any other. Raises GuestError."""
        while not self.ended:
            data = self._next(rest)
            if kept is not None:
                kept.append(data)
            if text := self._decoder.decode(data, final=self.ended):
                return text
        return ""

    def read_all(self) -> bytes:
        """The rest of the body; the answer is closed then. Raises GuestError."""
        try:
            return b"".join(iter(self.read, b""))
        finally:
            self.close()

    def to_leave(self, shown: bytes) -> bytes:
        """`shown`, a part of this answer, as it may leave the run without passing through the guest: searched for all
        of the run's secrets. Raises RunStopped if the run must end before that is done."""
        return shown if self.searched_for_all else self._run.redactor.data(shown, self._run.go_on)

    def close(self) -> None:
        self.ended = True
        self._raw.close()

    def _error(self) -> bytes:
        """The whole body of an error, or one in its place: the status, and when to try again, have come."""
        self._is_error, pieces, why = False, [], self._unreadable
        try:
            while not why and not self.ended:
                pieces.append(self._next())
        except GuestError as error:
            if error.kind not in _OF_THE_BODY:
                raise
            why = error.message
        if not why:
            return b"".join(pieces)
        self.close()
        said = f"the upstream answered {self.status}, and the body of its answer cannot be read: {why}"
        return json_bytes({"error": {"type": "upstream_error", "message": said}})

    def _next(self, rest: Deadline | None = None) -> bytes:
        if self._is_error:
            return self._error()
        began = time.monotonic()
        try:
            piece = self._raw.read(rest or self._run, _PIECE_BYTES)
            self._run.meters.received_bytes += len(piece)
            if piece:
                if not self._begun and piece[0] in MARKED and isinstance(self._redacted, StreamRedactor):
                    self._redacted = CharsetRedactor(self._redactor, None)
                self._begun = True
                return self._redacted.feed(piece, self._run.go_on)
            self.ended = True
            return self._redacted.flush()
        except EgressError as error:
            self.close()
            if rest is not None:
                return b""
            raise self._failed(error) from None
        finally:
            self._run.meters.upstream_time_s += time.monotonic() - began


class Exchange:
    """One catalyst's requests: its grant, where they go, and its rate, which `limiter` counts if there is one."""

    def __init__(self, grant: Grant, upstream: Upstream, limiter: RequestLimiter | None = None) -> None:
        self.grant = grant
        self._upstream = upstream
        self._meter = RateMeter(grant.reference, grant.rate, limiter)
        self._attempts = Attempts(grant, limiter, self._count_again)
        self._shown: dict[tuple[Origin, Origin], tuple[str, ...]] = {}  # the secrets in answers, which do not change
        self.any_method = grant.methods.issuperset(METHODS)

    def begin(self, run: Run, text: str) -> tuple[RequestMessage, UpstreamAnswer]:
        """Send the request that the guest's message `text` describes. Returns the message and the answer, which is to
        be closed. Raises GuestError, with any refusal recorded."""
        run.unserved = None
        try:
            message = read_message(text, run.go_on)
            request, entered = self._allowed(run, message)
        except GuestError as error:
            raise self.refused(run, error) from None
        raw, request, redactor, broken = self.open(run, request, entered, self._upstream.send)
        if raw.status >= _ERRORS:
            run.unserved = cause_of_status(raw.status)
        elif request.method not in IDEMPOTENT:
            run.once_only = True
        return message, UpstreamAnswer(run, raw, redactor, broken)

    def open(
        self, run: Run, request: UpstreamRequest, entered: Entered, by: Callable[[Run, UpstreamRequest], A]
    ) -> tuple[A | RawAnswer, UpstreamRequest, Redactor, Callable[[EgressError], GuestError]]:
        """Send a request that `enter` let through, `by` that function, and elsewhere or again as the policy says.
        Returns what it opened; the request as it was sent last; the redactor for what comes from there; and what makes
        the GuestError of an error that comes later. Raises GuestError, with any refusal recorded."""
        attempts, run.overdue, run.unsent = self._attempts, None, None
        if attempts.repeats:
            attempts.begun.append((time.monotonic(), run.key))
        try:
            sent = attempts.send(run, request, entered, by)
        except GuestError as error:
            raise recorded(run, error) from None
        redactor = self._redactor_for(run, sent.request)
        broken: Callable[[EgressError], GuestError] = partial(failed, run, self.grant, sent.request, redactor)
        if isinstance(sent.outcome, EgressError):
            raise broken(sent.outcome)
        if sent.passed is not None:
            broken = attempts.watching(run, sent.passed, broken)
        return sent.outcome, sent.request, redactor, broken

    def _redactor_for(self, run: Run, request: UpstreamRequest) -> Redactor:
        """For the secrets that an answer to `request`, from where it was sent, may show."""
        at = request.target.at, request.destination.at
        if (names := self._shown.get(at)) is None:
            names = tuple(map(str, self.grant.shown_by(request.target, request.destination)))
            if len(self._shown) < _MOST_ORIGINS:
                self._shown[at] = names
        if len(names) == len(run.placeholders.by_name):
            return run.redactor
        return run.redactor.limited([run.placeholders.by_name[name] for name in names])

    def _allowed(self, run: Run, message: RequestMessage) -> tuple[UpstreamRequest, Entered]:
        """The request of `message`, decided, let through, counted and recorded. Raises GuestError."""
        target = message.target
        decision = decide(target, message.method, self.grant)
        if isinstance(decision, Deny):
            raise GuestError.denied(decision, subject(message.method, target))
        for name, value in message.headers:
            if name.lower().translate(SPELLING) in METHOD_OVERRIDES:
                self.check_override(message, value)
        check = partial(check_size, self.grant, message.method, target)
        body, content_type = read_body(message, run.attachments, check)
        check(len(body))
        if not self.any_method:
            given_type = next((value for name, value in message.headers if spelled(name) == "content-type"), "")
            for method in methods_in_fields(target.path_query, content_type or given_type, body):
                self.check_override(message, method)
        if message.after_ms:
            self._attempts.wait(run, message.method, target, message.after_ms / 1_000, "the catalyst asked for it")
        shown = {"method": message.method, "url": target.shown, "request_bytes": len(body)}
        entered = self.enter(run, message, len(body), decision.rule, shown)
        headers = message.headers
        if content_type:
            others = (field for field in headers if field[0].lower() != "content-type")
            headers = (*others, ("Content-Type", content_type))
        return UpstreamRequest(message.method, target, entered.destination, headers, body), entered

    def enter(self, run: Run, message: RequestMessage, size: int, rule: str, shown: Mapping[str, Json]) -> Entered:
        """Let a request through that `rule` allows, count it and record it, as `shown`. The record may be held, until
        the request is about to be sent. Raises GuestError."""
        method, target = message.method, message.target
        entered = self._attempts.enter(run, method, target, message.headers, size)
        try:
            self._count(run, message)
            if entered.passed_over:
                self._attempts.record_moves(run, method, target, entered)
            if entered.destination is not target:
                shown = {**shown, "sent_to": entered.destination.origin}
            run.audit("http.request", "allow", rule, shown, held=True)
        except BaseException:
            self._attempts.leave(entered.passed)
            raise
        return entered

    def refused(self, run: Run, error: GuestError) -> GuestError:
        """`error`, of a request that is not sent: counted, and its refusal recorded."""
        run.unserved = "circuit_open" if error.kind == "circuit_open" else None
        run.blocked_requests += error.refusal is not None or error.kind == "circuit_open"
        return recorded(run, error)

    def check_override(self, message: RequestMessage, method: str) -> None:
        """Raises GuestError where `method`, which a server may take for the request's own, is not allowed."""
        method = method.strip().upper()
        if isinstance(decision := decide(message.target, method, self.grant), Deny):
            shown = method if method in METHODS else message.method
            raise GuestError.denied(decision, subject(shown, message.target))

    def _count(self, run: Run, message: RequestMessage) -> None:
        """Count a request. Raises GuestError where there is no room for it."""
        most = self.grant.limits.max_http_requests
        if run.meters.http_requests + run.blocked_requests >= most:
            remedy = f"raise max_http_requests in the policy of {self.grant.reference}"
            raise GuestError.refused(Refusal("rate_limited", "http requests", f"a run may make {most}", remedy))
        rate = self.grant.rate
        if rate is not None and (wait := self._meter.take()) is not None:
            rule = f"over {rate.requests} requests in {rate.window_s:g} s: retry after {wait:.1f} s"
            remedy = f"or raise rate_limit in the policy of {self.grant.reference}"
            raise GuestError.refused(Refusal("rate_limited", subject(message.method, message.target), rule, remedy))
        run.meters.http_requests += 1

    def _count_again(self, run: Run) -> bool:
        """Count one more sending of a request. Returns whether there was room for it."""
        if run.meters.http_requests + run.blocked_requests >= self.grant.limits.max_http_requests:
            return False
        if self.grant.rate is not None and self._meter.take() is not None:
            return False
        run.meters.http_requests += 1
        return True


class LiveUpstream:
    """Sends over the network: values in place of placeholders where the grant says so, to checked addresses only."""

    def __init__(
        self,
        grant: Grant,
        client: EgressClient,
        secrets: Mapping[SecretName, SecretValue],
        obtain: Callable[[Run, SecretName], None] | None = None,
    ) -> None:
        """`secrets` are the values that stay, those that stand in for others at single upstreams too. `obtain`: see
        `host.capabilities.secrets.Secrets`."""
        self._grant = grant
        self._client = client
        self._secrets = secrets
        self._obtain = obtain
        self.has_stand_ins = any(one.secrets for one in grant.named_upstreams)
        self._places = frozenset(place for one in grant.secrets.values() for place in one.places)

    def send(self, run: Run, request: UpstreamRequest) -> RawAnswer:
        if run.placeholders.names:
            request = self.with_secrets(run, request)
        run.settle()
        most, waits, key = run.limits.max_response_bytes, run.limits, run.key
        outgoing = Outgoing(request.method, request.destination, request.headers, request.body, most, waits, key)
        run.meters.sent_bytes += len(request.body)
        began = time.monotonic()
        try:
            answer = self._client.send(outgoing, run)
        finally:
            run.meters.upstream_time_s += time.monotonic() - began
        if request.destination.at != request.target.at:
            for index, (name, value) in enumerate(answer.headers):
                if name in _LOCATIONS:
                    seen = (name, reference_at(value, request.destination.at, request.target.at))
                    answer.headers = (*answer.headers[:index], seen, *answer.headers[index + 1 :])
        return answer

    def with_secrets(self, run: Run, request: UpstreamRequest) -> UpstreamRequest:
        """`request` with values where the grants for its target let them stand; each use is recorded. A request to an
        origin that has a secret cannot choose the form of its answer, also if it carries none: the origin may show an
        earlier request."""
        grants = self._grant.secrets_for(request.target)
        if not grants:
            self._note_misdirected(run, request)
            return request
        given, plain, left_out = unformed(request.headers)
        headers, used = self._in_headers(run, grants, given, plain, request)
        destination, body, without = request.destination, request.body, {"without": left_out} if left_out else {}
        if "url" in self._places and (in_url := [grant for grant in grants if "url" in grant.places]):
            text = destination.path_query.decode("ascii")
            path_query, found = self.substitution(run, in_url, request).apply_url(text)
            try:
                destination = Target.parse(destination.origin + path_query) if found else destination
            except UrlError as error:
                raise GuestError("http_error", f"url, with its secrets: {error.reason}") from None
            used |= found
        if "body" in self._places and (in_body := [grant for grant in grants if "body" in grant.places]):
            kind = next((value for name, value in headers if name.lower() == "content-type"), "")
            body, found = self.substitution(run, in_body, request).apply_bytes(body, kind)
            check_size(self._grant, request.method, request.target, len(body))
            used |= found
        if used:
            check_no_override(request.method, request.target, given, plain)
        for placeholder in sorted(used):
            name = run.placeholders.names[placeholder]
            other = self.stand_in_of(name, request) if self.has_stand_ins else {}
            detail = {"secret": name, "origin": request.target.origin, **other, **without}
            run.audit("secret.use", "allow", detail=detail, held=True)
        request = replace(request, destination=destination, headers=tuple(headers), body=body)
        self._note_misdirected(run, request)
        return request

    def _in_headers(
        self, run: Run, grants: Sequence[SecretGrant], given: Fields, plain: Sequence[str], request: UpstreamRequest
    ) -> tuple[Fields, set[str]]:
        """The headers with values, each in those that its grant names, and the placeholders that were used. `plain` are
        the names as servers may read them. Raises GuestError for a header with a value that is given twice: only lists
        may be (RFC 9110, 5.3); and where a value is moved along in its header (see `check_not_moved`)."""
        headers, used = list(given), set[str]()
        for index, (name, value) in enumerate(given):
            lowered = name.lower()
            if PLACEHOLDER_PREFIX not in value and lowered != "authorization":  # which may have it in base64
                continue
            if not (fitting := [grant for grant in grants if grant.fits_header(lowered)]):
                continue
            text, found = self.substitution(run, fitting, request).apply_header(name, value)
            check_not_moved(name, value, found)
            if found and plain.count(plain[index]) > 1:
                raise GuestError("http_error", f"the header {name[:80]} is given twice")
            headers[index] = (name, text)
            used |= found
        return tuple(headers), used

    def substitution(self, run: Run, grants: Sequence[SecretGrant], request: UpstreamRequest) -> Substitution:
        """For the secrets of `grants`, where `request` goes. Raises EgressError for a token that cannot be had."""
        by_name, tokens, others = run.placeholders.by_name, run.tokens, _NO_OTHERS
        if self.has_stand_ins:
            others = self._grant.stand_ins(request.target, request.destination)
            for grant in grants:
                if (other := others.get(grant.name)) is not None:
                    self._have(run, other, request)
        return Substitution(
            {
                by_name[str(grant.name)]: value
                for grant in grants
                if (value := tokens.get(name := others.get(grant.name, grant.name)) or self._secrets.get(name))
                is not None
            }
        )

    def _have(self, run: Run, name: SecretName, request: UpstreamRequest) -> None:
        """Let the run have a value of `name`, a secret that stands in for another. Raises EgressError."""
        if name in self._secrets or name in run.tokens or self._obtain is None:
            return
        if (lost := unobtained(run, name, self._obtain)) is not None:
            raise NotAsked(request.destination.at.endpoint, lost)

    def stand_in_of(self, name: str, request: UpstreamRequest) -> dict[str, Json]:
        """For the record of a use: the secret in place of `name` in `request`, and where it goes."""
        other = self._grant.stand_ins(request.target, request.destination).get(SecretName.parse(name))
        return {} if other is None else {"value_of": str(other), "sent_to": request.destination.origin}

    def _note_misdirected(self, run: Run, request: UpstreamRequest) -> None:
        """Refuse each placeholder that is still there: its secret is not bound to this domain, or not to this place in
        a request. The request goes out, and will fail for want of the secret."""
        for placeholder, name in run.placeholders.names.items():
            encoded = placeholder.encode()
            places = [] if encoded not in request.destination.path_query else ["url"]
            places += [] if encoded not in request.body else ["body"]
            headers = [header for header, value in request.headers if placeholder in value]
            if places or headers:
                self.refuse_use(run, SecretName.parse(name), request.target, places, headers)

    def refuse_use(self, run: Run, name: SecretName, target: Target, places: list[str], headers: list[str]) -> None:
        named = [f"the header {header[:80]!r}" for header in headers[:_MOST_NAMED]]
        where = ", ".join([*named, *(f"the {place}" for place in places)])
        rule = f"not bound to {target.origin} and where it stands in the request: {where}"
        for header in headers[:_MOST_NAMED]:
            with suppress(InputError):  # no grant can name that header
                places.append("header" if header.lower() in CREDENTIALS else HEADER + secret_header(header))
        remedy = binding_remedy(name, target, self._grant, places) if places else "no secret can stand there"
        run.refuse("secret.use", Refusal("secret_denied", f"secret {name}", rule, remedy, grantable=bool(places)))


_LOCATIONS = ("location", "content-location")
_NO_OTHERS: Mapping[SecretName, SecretName] = {}
