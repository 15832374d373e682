"""Principals: who makes a request, what they may do, and what they may hold of this process.

A key holds requests under way, and bytes of their bodies; that is decided by its name alone, before anything of a
request is read. The same rule bounds both: a key may not hold more than it leaves free, so that there is always room
for another (dynamic thresholds: Choudhury and Hahne, 1998). A key that is alone gets half, two get a third each.
Callers without a key count as one. Work that takes long, such as parsing a large body, is done off the event loop: one
piece at a time for each key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, TypeVar

from host.core.names import Reference
from host.core.slots import fair
from host.errors import Busy, Forbidden, HostError, LimitExceeded, Overloaded, Unauthenticated
from host.runtime.threads import ASIDE_S, Workers

if TYPE_CHECKING:
    import asyncio

    from host.component.operations import OperationSpec
    from host.store.access.api_keys import ApiKey, KeyRing, KeyScope, Proof

T = TypeVar("T")

ANONYMOUS_SCOPES: frozenset[KeyScope] = frozenset({"run", "runs", "components", "metrics"})
"""For callers on the loopback interface while there is no key: everything but management."""


_MODEL = re.compile(r"[A-Za-z0-9@][A-Za-z0-9._:/@+~-]*")  # no blank, and none of `,?#%`, which some take apart
_WILDCARD = re.compile(r"[*?\[]")
_READING = ("list", "get", "retrieve")  # the last words of operations that read, where nothing says their method


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of `key`, by `proof`. Without a key: a caller on the loopback interface while there is no key
    (`anonymous`), or the operator at their own terminal."""

    key: ApiKey | None
    scopes: frozenset[KeyScope]
    proof: Proof | None = field(default=None, compare=False)
    anonymous: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, key: ApiKey, proof: Proof | None = None) -> Principal:
        return cls(key, key.scopes, proof)

    def require_still(self, keys: KeyRing, now: float) -> None:
        """Raises Unauthenticated where the caller would not be let in any more: their key was revoked, rotated or
        changed, or has expired; or it is the first key, and they have none."""
        if self.anonymous and keys.any:
            raise Unauthenticated("this server asks for a key now", hint="the operator makes one: host key create")
        if self.key is not None and self.proof is not None and not keys.still_good(self.key, self.proof, now):
            raise Unauthenticated("the key is not valid any more: it was revoked or changed, or has expired")

    @property
    def id(self) -> str:
        """The key's id; "" without a key."""
        return self.key.id if self.key else ""

    @property
    def name(self) -> str:
        """The key's name; "" without a key."""
        return self.key.name if self.key else ""

    @property
    def for_some_models(self) -> bool:
        return self.key is not None and bool(self.key.models)

    @property
    def limited(self) -> bool:
        """Whether the key is for some models or operations alone."""
        return self.key is not None and bool(self.key.models or self.key.operations or self.key.type == "public")

    def may(self, scope: KeyScope) -> bool:
        return scope in self.scopes

    def require(self, scope: KeyScope) -> None:
        """Raises Forbidden."""
        if scope not in self.scopes:
            what = f"the key {self.name!r} does not have" if self.key else "this takes a key with"
            raise Forbidden(
                f"{what} the scope {scope!r}",
                hint=f"the operator makes one: host key create --name NAME {_WITH[scope]}",
            )

    def may_use(self, reference: Reference) -> bool:
        """Whether the key is for the catalyst of this reference, which has a version."""
        if self.key is None or not self.key.catalysts:
            return True
        return reference in self.key.catalysts or reference.any_version in self.key.catalysts

    def may_ask(self, model: str) -> bool:
        """Whether the key is for the model of this name. A text that providers might read as another name, or as
        several, is none."""
        if self.key is None or not self.key.models:
            return True
        plain = _MODEL.fullmatch(model) is not None and ".." not in model
        return plain and any(fnmatchcase(model, glob) for glob in self.key.models)

    def may_operate(self, operation: str, spec: OperationSpec | None = None) -> bool:
        """Whether the caller may run this operation; "" stands for the whole input of a catalyst that takes none.
        `spec` is the operation's, where it is known: then its name counts, and not the alias that the caller gave.

        An operation with a secret of its own, such as an administrator's, and one that hands out credentials are only
        for a key with a glob that names their kind: `admin.*` does, `*` and `*.list` do not. A public key without
        operations runs those that the manifest marks as public, or else those that read. One with operations deletes
        only where a glob names the deletion: `files.delete` does, `files.*` does not."""
        apart = spec is not None and spec.is_apart
        if self.key is None:
            return not (apart and self.anonymous)
        name = spec.name if spec else operation
        globs, public = self.key.operations, self.key.type == "public"
        if apart:
            globs = tuple(glob for glob in globs if _names_kind(glob, name))
            if not globs:
                return False
        if not globs:
            return not public or _reads(name, spec)
        if public and _deletes(name, spec):
            globs = tuple(glob for glob in globs if not glob.endswith("*"))
        return any(fnmatchcase(name, glob) for glob in globs)

    def require_catalyst(self, reference: Reference) -> None:
        """Raises Forbidden."""
        if not self.may_use(reference):
            raise Forbidden(f"the key {self.name!r} is not for the catalyst {reference.any_version}")

    def require_operation(self, operation: str, spec: OperationSpec | None = None) -> None:
        """Raises Forbidden. See `may_operate`."""
        if not self.may_operate(operation, spec):
            name = (spec.name if spec else operation)[:200]
            if self.key is None:
                raise Forbidden(
                    f"the operation {name!r} uses a secret of its own or hands one out, and takes a key that names it",
                    hint=f"the operator makes one: host key create --name NAME --operation {name}",
                )
            raise Forbidden(
                f"the key {self.name!r} is not for the operation {name!r}",
                hint=f"the operator widens it: host key update {self.id} --operation {name or repr('*')}",
            )

    def require_model(self, *names: str) -> None:
        """`names` are all names of one model. Raises Forbidden where the key is for none of them."""
        if not any(map(self.may_ask, names)):
            raise Forbidden(f"the key {self.name!r} is not for the model {names[0][:200]!r}")

    def require_any_model(self) -> None:
        """For a request that may use a model without naming it. Raises Forbidden for a key that is for some models."""
        if self.for_some_models:
            raise Forbidden(
                f"the key {self.name!r} is for some models alone, and the request does not show which model it uses",
                hint="name it in `model`; a stored prompt, an assistant, a batch and a hosted tool hide theirs",
            )


OPERATOR: Final = Principal(None, frozenset({"run", "runs", "components", "metrics", "manage"}))
"""The operator at their own terminal."""

_WITH: dict[KeyScope, str] = {
    "run": "--type secret --scope run",
    "runs": "--type secret --scope runs",
    "components": "--type secret --scope components",
    "metrics": "--type secret --scope metrics",
    "manage": "--type admin --scope manage",
}


def _names_kind(glob: str, operation: str) -> bool:
    """Whether the glob has the operation's first word, or all of it."""
    kind, dot, _ = operation.partition(".")
    return glob == operation or (bool(dot) and _WILDCARD.split(glob, 1)[0].startswith(f"{kind}."))


def _reads(operation: str, spec: OperationSpec | None) -> bool:
    if spec is not None and spec.public is not None:
        return spec.public and spec.method in ("GET", "") and not spec.websocket
    if spec is not None and spec.method:
        return spec.method == "GET" and not spec.websocket
    return operation.rpartition(".")[2] in _READING


def _deletes(operation: str, spec: OperationSpec | None) -> bool:
    return (spec is not None and spec.method == "DELETE") or operation.rpartition(".")[2] in ("delete", "remove")


MOST_REQUESTS: Final = 2_048  # under way in a process, whether they are read, wait for a sandbox, run or are answered
MOST_BYTES: Final = 512 * 1024 * 1024
MAX_VALUES: Final = 500_000  # of JSON in a request: OpenAI takes 300,000 tokens at once, as numbers
VALUE_BYTES: Final = 200  # that one value of JSON takes in memory, at most: a dictionary with one entry
_RETRY_S: Final = 1.0
_COME_AGAIN: Final = "wait for answers before the next request"
_THREADS: Final = 4


def _lock() -> asyncio.Lock:
    import asyncio  # noqa: PLC0415 - `host run` has no event loop

    return asyncio.Lock()


@dataclass(slots=True)
class _Account:
    """What the key of the id `ident` holds. `turn` is held during its work off the event loop."""

    ident: str
    requests: int = 0
    bytes: int = 0
    turn: asyncio.Lock = field(default_factory=_lock)


class Admission:
    """One per process, for its event loop."""

    def __init__(
        self,
        most_bytes: int = MOST_BYTES,
        most_requests: int = MOST_REQUESTS,
        *,
        crowded: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`crowded` says of the id of a caller that too many of their runs wait to compute."""
        self._crowded = crowded
        self.free_bytes = most_bytes
        self.free_requests = most_requests
        self._accounts: dict[str, _Account] = {}
        self._threads = Workers("host-parse", _THREADS)

    def enter(self, principal: Principal) -> Admitted:
        """A request of the caller is under way, until it leaves. Raises Overloaded, Busy."""
        ident = principal.id
        account = self._accounts.get(ident) or _Account(ident)
        if not account.requests and not fair(0, self.free_requests):
            raise Busy("this server has as many requests under way as it can take", hint="try again soon")
        if not fair(account.requests, self.free_requests) or self._crowded(ident):
            whose = f"the key {principal.name!r}" if principal.key else "the caller"
            raise Overloaded(f"{whose} has more requests under way than this server can take", hint=_COME_AGAIN)
        self._accounts[ident] = account
        account.requests += 1
        self.free_requests -= 1
        return Admitted(self, principal, account)

    def reserve(self, admitted: Admitted, size: int) -> None:
        """Called by `admitted`."""
        account, more = admitted.account, size - admitted.bytes
        if more > 0:
            if not fair(account.bytes, self.free_bytes, more):
                raise _too_large(account.bytes, admitted.principal)
            account.bytes += more
            admitted.bytes = size
            self.free_bytes -= more

    def leave(self, admitted: Admitted) -> None:
        """The request is under way no longer."""
        account = admitted.account
        account.bytes -= admitted.bytes
        account.requests -= 1
        self.free_bytes += admitted.bytes
        self.free_requests += 1
        if not account.requests:
            del self._accounts[account.ident]

    async def off_loop(self, account: _Account, work: Callable[[], T]) -> T:
        """Called by Admitted."""
        async with account.turn:
            return await self._threads.answer(work, ASIDE_S)

    def close(self) -> None:
        self._threads.close()


@dataclass(slots=True, eq=False)
class Admitted:
    """One request that is under way, with the `bytes` that are reserved for it. A key's first request, and the first of
    its bodies, may take all that is free."""

    _admission: Admission
    principal: Principal
    account: _Account
    bytes: int = 0

    def reserve(self, size: int) -> None:
        """Hold `size` bytes in all. Raises LimitExceeded, Busy."""
        self._admission.reserve(self, size)

    async def off_loop(self, work: Callable[[], T]) -> T:
        """The result of `work`, which takes long, after the pieces of work that the same key has there already."""
        return await self._admission.off_loop(self.account, work)


def weight(text: bytes | str) -> int:
    """Bytes of memory that JSON and its values take, at most. Its text is four times as large where a character needs
    it; commas in texts look like values here, so no more of them count than there may be values."""
    if isinstance(text, bytes):
        found = text.count(b",") + text.count(b"[") + text.count(b"{")
    else:
        found = text.count(",") + text.count("[") + text.count("{")
    values = min(MAX_VALUES, found)
    return len(text) * (1 if text.isascii() else 4) + values * VALUE_BYTES


def _too_large(held: int, principal: Principal) -> HostError:
    if not held:
        return Busy("there are too many bytes of requests under way here", hint="try again soon")
    name = f"the key {principal.name!r}" if principal.key else "the caller"
    return LimitExceeded(
        f"{name} has as many bytes of requests under way as it may",
        unit="bytes",
        retry_after_s=_RETRY_S,
        hint=_COME_AGAIN,
    )
