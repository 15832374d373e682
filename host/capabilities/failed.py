"""What a guest gets of a request that failed, and what is recorded of it."""

from __future__ import annotations

from host.capabilities.message import GuestError
from host.capabilities.upstream import NotAsked, UpstreamRequest
from host.core.quantities import as_duration
from host.core.repeating import cause_of_kind
from host.egress import EgressError
from host.errors import Refusal
from host.policy.permissions import Grant, deny_address
from host.run import Overdue, Run
from host.secrets.redaction import Redactor


def failed(run: Run, grant: Grant, request: UpstreamRequest, redactor: Redactor, error: EgressError) -> GuestError:
    """The GuestError for `error`, which may quote the answer; a recorded refusal where a policy could allow what
    failed. It names the host that the guest asked for. Where the operator sends its requests to another, the record
    has the error with that."""
    if isinstance(error, NotAsked):
        run.unsent = error.behind
    run.unserved, target, destination = cause_of_kind(error.kind), request.target, request.destination
    words = error.message
    if destination is not target or (error.kind == "timeout" and error.limit):
        words = error.naming(target.at.endpoint)
        detail = {"type": error.kind, "url": target.shown, "sent_to": destination.origin}
        run.audit("http.request", rule=f"failed: {error.message}", detail=detail)
    match error.kind:
        case "private_ip_blocked":
            return recorded(run, GuestError.denied(deny_address(target.at, words, grant), target.shown))
        case "response_too_large":
            remedy = f"raise {error.limit or 'max_response_size'} in the policy of {grant.reference}"
            refusal = Refusal(error.kind, target.shown, words, remedy)
            return recorded(run, GuestError.refused(refusal))
        case "timeout" if error.limit:
            remedy = run.raising(error.limit, as_duration(error.waited_s * 2))
            run.overdue = Overdue(error.limit, error.waited_s, redactor.text(words), remedy)
            return GuestError(error.kind, f"{words} (raise {error.limit} in the policy of {grant.reference})")
        case _:
            return GuestError("timeout" if error.kind == "cancelled" else error.kind, redactor.text(words))


def recorded(run: Run, error: GuestError) -> GuestError:
    """`error`, once its refusal, if it has one, is recorded."""
    if error.refusal is not None:
        run.refuse("http.request", error.refusal)
    return error
