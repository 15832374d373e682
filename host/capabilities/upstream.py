"""The seam between the host and an upstream, and the live implementation of it.

What crosses the seam holds placeholders, never secrets: `LiveUpstream` puts the values in below it, at the last moment.
An implementation that records or replays stands in its place and never sees a secret in a request. What comes back is
the upstream's own text, which may echo a secret: `Exchange` redacts it, whichever implementation it came from, and a
recorder redacts what it writes with `run.redactor`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from host.capabilities.message import GuestError
from host.core.names import SecretName
from host.egress import Deadline, EgressClient, Outgoing
from host.egress.headers import Fields
from host.errors import Refusal
from host.policy.domains import Place, SecretGrant
from host.policy.permissions import Grant, binding_remedy
from host.policy.urls import Target, UrlError
from host.run import Run
from host.secrets.value import SecretValue, Substitution


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """An allowed request, with placeholders. `target` is the URL that the guest named, `destination` the one that the
    operator sends it to (most often the same)."""

    method: str
    target: Target
    destination: Target
    headers: Fields = field(repr=False)
    body: bytes = field(repr=False)


class RawAnswer(Protocol):
    """A response that has begun, as the upstream sent it. `headers` have lower-case names. To be closed."""

    status: int
    headers: Fields

    def read(self, clock: Deadline, max_bytes: int = ...) -> bytes:
        """The next bytes of the body as soon as there are any; empty at the end. Raises EgressError."""
        ...

    def close(self) -> None: ...


class Upstream(Protocol):
    """Where allowed requests go. Thread-safe."""

    def send(self, run: Run, request: UpstreamRequest) -> RawAnswer:
        """Send `request` and return once the response has begun. Raises EgressError, GuestError."""
        ...


class LiveUpstream:
    """Sends over the network: values in place of placeholders where the grant says so, to checked addresses only."""

    def __init__(self, grant: Grant, client: EgressClient, secrets: Mapping[SecretName, SecretValue]) -> None:
        self._grant = grant
        self._client = client
        self._secrets = secrets

    def send(self, run: Run, request: UpstreamRequest) -> RawAnswer:
        if run.placeholders.names:
            request = self._with_secrets(run, request)
        check_size(self._grant, request.method, request.target, len(request.body))
        limit = self._grant.limits.max_response_bytes
        outgoing = Outgoing(request.method, request.destination, request.headers, request.body, limit)
        run.meters.sent_bytes += len(request.body)
        began = time.monotonic()
        try:
            return self._client.send(outgoing, run)
        finally:
            run.meters.upstream_time_s += time.monotonic() - began

    def _with_secrets(self, run: Run, request: UpstreamRequest) -> UpstreamRequest:
        """`request` with values where the grants for its target let them stand; each use is recorded."""
        grants = self._grant.secrets_for(request.target)
        in_header = self._substitution(run, grants, "header")
        headers, used = [], set[str]()
        for name, value in request.headers:
            text, found = in_header.apply_header(name, value)
            headers.append((name, text))
            used |= found
        destination, body = request.destination, request.body
        places = {place for grant in grants for place in grant.places}
        if "url" in places:
            in_url = self._substitution(run, grants, "url")
            path_query, found = in_url.apply_url(destination.path_query.decode("ascii"))
            try:
                destination = Target.parse(destination.origin + path_query) if found else destination
            except UrlError as error:
                raise GuestError("http_error", f"url, with its secrets: {error.reason}") from None
            used |= found
        if "body" in places:
            kind = next((value for name, value in headers if name.lower() == "content-type"), "")
            body, found = self._substitution(run, grants, "body").apply_bytes(body, kind)
            used |= found
        origin = request.target.origin
        for placeholder in sorted(used):
            run.audit("secret.use", "allow", detail={"secret": run.placeholders.names[placeholder], "origin": origin})
        request = replace(request, destination=destination, headers=tuple(headers), body=body)
        self._note_misdirected(run, request)
        return request

    def _substitution(self, run: Run, grants: Sequence[SecretGrant], place: Place) -> Substitution:
        by_name = run.placeholders.by_name
        return Substitution(
            {by_name[str(grant.name)]: self._secrets[grant.name] for grant in grants if place in grant.places}
        )

    def _note_misdirected(self, run: Run, request: UpstreamRequest) -> None:
        """Refuse each placeholder that is still there: its secret is not bound to this domain, or not to this place in
        a request. The request goes out, and will fail for want of the secret."""
        parts = [value.encode() for _, value in request.headers]
        parts += (request.destination.path_query, request.body)
        for placeholder, name in run.placeholders.names.items():
            encoded = placeholder.encode()
            if [part for part in parts if encoded in part]:
                rule = f"not bound to {request.target.origin} and where it stands in the request"
                remedy = binding_remedy(SecretName.parse(name), request.target, self._grant)
                run.refuse("secret.use", Refusal("secret_denied", f"secret {name}", rule, remedy))


def check_size(grant: Grant, method: str, target: Target, size: int) -> None:
    """Raises GuestError where a body of `size` bytes is over the grant's limit."""
    most = grant.limits.max_request_bytes
    if size > most:
        remedy = f"raise max_request_size in the policy of {grant.reference}"
        rule = f"a body of {size} bytes is over {most}"
        raise GuestError.refused(Refusal("request_too_large", subject(method, target), rule, remedy))


def subject(method: str, target: Target) -> str:
    """How messages name a request: without its query."""
    return f"{method[:20]} {target.shown}"
