"""What fetch and streaming share: from a guest's message to an answer that has begun.

parse → method, domain → body → size → how many, how often → audit → secrets put in → sent to a checked address
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from host.capabilities.message import GuestError, Message, read_body, read_message
from host.capabilities.rate import RateMeter, Rates
from host.core.names import SecretName
from host.egress import Answer, EgressClient, EgressError, Outgoing
from host.errors import Refusal
from host.policy.document import Place, Rate
from host.policy.permissions import Deny, Grant, decide, deny_address, to_bind
from host.policy.urls import Target, UrlError
from host.run import Run
from host.secrets.value import SecretValue, Substitution


class Exchange:
    """One catalyst's requests: its grant, its connections, its rate, which `rates` counts where it is given."""

    def __init__(
        self,
        grant: Grant,
        client: EgressClient,
        secrets: Mapping[SecretName, SecretValue],
        rates: Rates | None = None,
    ) -> None:
        self.grant = grant
        self._client = client
        self._secrets = secrets
        self._meter = RateMeter(grant.rate)
        self._rates = rates

    def begin(self, run: Run, text: str) -> tuple[Message, Answer]:
        """Send what `text` asks for; the answer is to be closed. Raises GuestError, with any refusal recorded."""
        try:
            message = read_message(text)
            rule = self._decide(message)
            body, content_type = read_body(message, run.attachments, partial(self._check_size, message))
            self._check_size(message, len(body))
            self._check_count(run, message)
            outgoing = self._with_secrets(run, message, body, content_type, rule)
            self._check_size(message, len(outgoing.body))
            return message, self._send(run, outgoing, message.target)
        except GuestError as error:
            if error.refusal is not None:
                run.refuse("http.request", error.refusal)
            raise

    def _decide(self, message: Message) -> str:
        decision = decide(message.target, message.method, self.grant)
        if isinstance(decision, Deny):
            raise GuestError.denied(decision, _subject(message))
        return decision.rule

    def _check_size(self, message: Message, size: int) -> None:
        most = self.grant.limits.max_request_bytes
        if size > most:
            remedy = f"raise max_request_size in the policy of {self.grant.reference}"
            refusal = Refusal("request_too_large", _subject(message), f"a body of {size} bytes is over {most}", remedy)
            raise GuestError.refused(refusal)

    def _check_count(self, run: Run, message: Message) -> None:
        most = self.grant.limits.max_http_requests
        if run.meters.http_requests >= most:
            remedy = f"raise max_http_requests in the policy of {self.grant.reference}"
            raise GuestError.refused(Refusal("rate_limited", "http requests", f"a run may make {most}", remedy))
        rate = self.grant.rate
        if rate is not None and (wait := self._wait(rate)) is not None:
            rule = f"over {rate.requests} requests in {rate.window_s:g} s: retry after {wait:.1f} s"
            remedy = f"or raise rate_limit in the policy of {self.grant.reference}"
            raise GuestError.refused(Refusal("rate_limited", _subject(message), rule, remedy))
        run.meters.http_requests += 1

    def _wait(self, rate: Rate) -> float | None:
        return self._meter.take() if self._rates is None else self._rates.take(self.grant.reference, rate)

    def _with_secrets(self, run: Run, message: Message, body: bytes, content_type: str | None, rule: str) -> Outgoing:
        """The request as it leaves: recorded, then with values in the places that the grants name."""
        target = message.target
        shown = {"method": message.method, "url": target.shown, "request_bytes": len(body)}
        destination = self.grant.destination(target)
        if destination is not target:
            shown["sent_to"] = destination.origin
        run.audit("http.request", "allow", rule, shown)
        headers = tuple(
            (name, value) for name, value in message.headers if not content_type or name.lower() != "content-type"
        )
        if content_type:
            headers = (*headers, ("Content-Type", content_type))
        if run.placeholders.names:
            headers, destination, body = self._substituted(run, target, headers, destination, body)
        return Outgoing(message.method, destination, headers, body, self.grant.limits.max_response_bytes)

    def _substituted(
        self, run: Run, target: Target, headers: tuple[tuple[str, str], ...], destination: Target, body: bytes
    ) -> tuple[tuple[tuple[str, str], ...], Target, bytes]:
        used: set[str] = set()
        in_header = self._substitution(run, target, "header")
        substituted = []
        for name, value in headers:
            text, found = in_header.apply_header(name, value)
            substituted.append((name, text))
            used |= found
        if any("url" in grant.places for grant in self.grant.secrets_for(target)):
            path_query, found = self._substitution(run, target, "url").apply_url(destination.path_query.decode("ascii"))
            try:
                destination = Target.parse(destination.origin + path_query) if found else destination
            except UrlError as error:
                raise GuestError("http_error", f"url, with its secrets: {error.reason}") from None
            used |= found
        if any("body" in grant.places for grant in self.grant.secrets_for(target)):
            kind = next((value for name, value in headers if name.lower() == "content-type"), "")
            body, found = self._substitution(run, target, "body").apply_bytes(body, kind)
            used |= found
        for placeholder in sorted(used):
            run.audit(
                "secret.use", "allow", detail={"secret": run.placeholders.names[placeholder], "origin": target.origin}
            )
        leaving = "\n".join(value for _, value in substituted).encode() + destination.path_query + b"\n" + body
        self._note_misdirected(run, target, leaving)
        return tuple(substituted), destination, body

    def _substitution(self, run: Run, target: Target, place: Place) -> Substitution:
        return Substitution(
            {
                run.placeholders.by_name[str(grant.name)]: self._secrets[grant.name]
                for grant in self.grant.secrets_for(target)
                if place in grant.places
            }
        )

    def _note_misdirected(self, run: Run, target: Target, leaving: bytes) -> None:
        """A placeholder that stayed one, for its secret is not bound to this domain or this place. Worth a word, since
        the request will fail for want of it."""
        for placeholder, name in run.placeholders.names.items():
            if placeholder.encode() in leaving:
                rule = f"not bound to {target.origin} and where it stands in the request"
                remedy = to_bind(SecretName.parse(name), target, self.grant)
                run.refuse("secret.use", Refusal("secret_denied", f"secret {name}", rule, remedy))

    def _send(self, run: Run, outgoing: Outgoing, target: Target) -> Answer:
        began = time.monotonic()
        run.meters.sent_bytes += len(outgoing.body)
        try:
            return self._client.send(outgoing, run)
        except EgressError as error:
            raise self.translated(error, target) from None
        finally:
            run.meters.upstream_time_s += time.monotonic() - began

    def translated(self, error: EgressError, target: Target) -> GuestError:
        """What the guest is told; a refusal where a policy could allow it."""
        match error.kind:
            case "private_ip_blocked":
                return GuestError.denied(deny_address(target.at, error.message, self.grant), target.shown)
            case "response_too_large":
                remedy = f"raise max_response_size in the policy of {self.grant.reference}"
            case _:
                return GuestError("timeout" if error.kind == "cancelled" else error.kind, error.message)
        return GuestError.refused(Refusal(error.kind, target.shown, error.message, remedy))


def _subject(message: Message) -> str:
    return f"{message.method[:20]} {message.target.shown}"
