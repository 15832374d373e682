"""The policies that an operator keeps."""

from __future__ import annotations

from dataclasses import fields
from typing import ClassVar, Final, Literal

from host.audit import EventKind
from host.errors import PolicyError
from host.names import Reference
from host.policy.document import Policy
from host.policy.kept import DEFAULT, Effective
from host.state.settings import Document, Settings

FIELDS: Final = tuple(one.name for one in fields(Policy))


class Policies(Settings):
    """Each written as `Policy` reads it, and read by it again: what is malformed raises PolicyError, and so denies."""

    section: ClassVar[Literal["policy"]] = "policy"
    kind: ClassVar[EventKind] = "policy.changed"
    forget: ClassVar[str] = "host policy reset"

    def check(self, document: Document) -> None:
        Policy.from_document(document)

    def effective(self, reference: Reference) -> Effective:
        """What a run of `reference` may do by it. Raises PolicyError, StateError where what is kept is no policy."""
        merged = self.merged(reference)
        try:
            policy = Policy.from_document({field: setting.value for field, setting in merged.items()})
        except PolicyError as error:
            raise PolicyError(
                f"the policy kept for {reference}: {error.message}", field=error.field, hint=error.hint
            ) from None
        origins = {field: str(merged[field].scope) if field in merged else DEFAULT for field in FIELDS}
        return Effective(reference, policy, origins)
