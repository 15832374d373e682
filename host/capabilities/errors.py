"""Errors as a guest sees them: `{"error": {"type", "message"}}`."""

from __future__ import annotations

from host.audit import Refusal
from host.jsontext import clean_text, write_json
from host.policy.grant import Deny


class GuestError(Exception):
    """Raised within a capability, turned into a value before the guest sees it. `kind` is an error type of CONTRACT.md;
    `refusal` is set where the host refused something that a policy could allow."""

    def __init__(self, kind: str, message: str, *, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.refusal = refusal

    @classmethod
    def refused(cls, refusal: Refusal) -> GuestError:
        return cls(refusal.kind, str(refusal), refusal=refusal)

    @classmethod
    def denied(cls, deny: Deny, subject: str) -> GuestError:
        return cls(deny.kind, deny.to_guest(subject), refusal=deny.refusal(subject))

    def as_json(self) -> str:
        return write_json({"error": {"type": self.kind, "message": clean_text(self.message)[:1_000]}})
