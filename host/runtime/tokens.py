"""Tokens that expire, while catalysts use them: renewed before their end, once for all that wait, and kept sealed.

    a catalyst asks for a secret ─ HeldToken.obtain ─▶ the token in memory, while it is not due
                                                      │ due, and still valid: that token; a thread gets the next one
                                                      └ not valid: wait for that thread, as long as the run has

Before a thread asks, it takes a lease in the state's counters: of all processes one asks, and the others find the new
token in the vault. So a refresh token that is good for one use is used once.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from host.core.audit import Event
from host.core.names import SecretName
from host.egress import Deadline, Egress
from host.errors import HostError, StateError, TokenUnavailable
from host.runtime.threads import Workers
from host.secrets.value import SecretValue
from host.store.access.counters import Slot
from host.store.vault.tokens import Issued, Token, TokenSource, digest_of

if TYPE_CHECKING:
    from concurrent.futures import Future

    from host.runtime.workspace import Workspace

_THREADS: Final = 4
_LEASE_S: Final = 30  # longer than asking and keeping take together
_LOOK_S: Final = 0.1  # between two looks at what another process does
_AGAIN_S: Final = 5.0  # after a failure nobody asks again for so long, and in advance not for
_AGAIN_AHEAD_S: Final = 30.0


class TokenKeeper:
    """One per host, thread-safe. `now` is Unix time in seconds."""

    def __init__(self, workspace: Workspace, egress: Egress, now: Callable[[], float] = time.time) -> None:
        self.workspace = workspace
        self.egress = egress
        self.now = now
        self.workers = Workers("host-tokens", _THREADS)
        self.closing = threading.Event()
        self._held: dict[tuple[SecretName, str], HeldToken] = {}
        self._lock = threading.Lock()

    def held(self, name: SecretName, user: str, source: TokenSource) -> HeldToken:
        """The token of the secret `name`, which `source` gives, for the component `user`, without its version."""
        digest = digest_of(source)
        with self._lock:
            found = self._held.get((name, user))
            if found is None or found.digest != digest:
                found = self._held[name, user] = HeldToken(self, name, user, digest)
            return found

    def close(self) -> None:
        self.closing.set()
        self.workers.close()


class HeldToken:
    """The token of one secret for one component. Made by `TokenKeeper.held`. Thread-safe."""

    def __init__(self, keeper: TokenKeeper, name: SecretName, user: str, digest: str) -> None:
        self.digest = digest
        self._keeper = keeper
        self._name = name
        self._user = user
        self._lock = threading.RLock()
        self._known: tuple[Token, ...] = ()  # the last one and the one before it
        self._renewal: Future[Token] | None = None
        self._failed: tuple[HostError, float] | None = None
        self._unkept: tuple[Token, TokenSource] | None = None  # issued, and not yet in the vault

    @property
    def known(self) -> tuple[SecretValue, ...]:
        """The values that an answer may show: of the last token, and of the one before it."""
        return tuple(token.value for token in self._known)

    def obtain(self, clock: Deadline) -> SecretValue:
        """The value of a token that is valid now. Raises TokenUnavailable, StateError."""
        now = self._keeper.now()
        with self._lock:
            token = self._known[0] if self._known else None
            if token is not None and not token.is_due(now):
                return token.value
            usable = token is not None and token.is_usable(now)
            renewal = self._begun(_AGAIN_AHEAD_S if usable else _AGAIN_S)
            if token is not None and usable:
                return token.value
            if renewal is None:
                assert self._failed is not None
                raise copy.copy(self._failed[0])
        return self._awaited(renewal, clock).value

    def _begun(self, again_s: float) -> Future[Token] | None:
        """The renewal that is under way, or a new one; None where one failed less than `again_s` ago. The lock is
        held."""
        if self._renewal is None and not (self._failed and time.monotonic() < self._failed[1] + again_s):
            renewal = self._renewal = self._keeper.workers.submit(self._renewed)
            renewal.add_done_callback(self._ended)  # on this thread, where it has ended already
            return renewal
        return self._renewal

    def _ended(self, renewal: Future[Token]) -> None:
        error = renewal.exception()
        with self._lock:
            self._renewal = None
            if isinstance(error, HostError):
                self._failed = error, time.monotonic()
            elif error is None:
                token, self._failed = renewal.result(), None
                if not self._known or self._known[0] != token:
                    self._known = (token, *self._known[:1])

    def _awaited(self, renewal: Future[Token], clock: Deadline) -> Token:
        arrived = threading.Event()
        renewal.add_done_callback(lambda _: arrived.set())
        with clock.interruptible(arrived.set):
            arrived.wait(max(0.0, clock.remaining()))
        if not renewal.done():
            raise TokenUnavailable(f"no token for {self._name} in the time that the run had left")
        try:
            return renewal.result()
        except HostError as error:
            raise copy.copy(error) from None

    # on a thread of the keeper

    def _renewed(self) -> Token:
        until = time.monotonic() + _LEASE_S
        while (token := self._fresh()) is None:
            if (lease := self._take()) is not None:
                try:
                    return self._fresh() or self._asked()
                finally:
                    self._release(lease)
            if time.monotonic() >= until or self._keeper.closing.wait(_LOOK_S):
                raise TokenUnavailable(f"no token for {self._name}: another process asks for it, and does not end")
        return token

    def _fresh(self) -> Token | None:
        """The token in the vault, which another process may have renewed, if it is not due."""
        kept = self._keeper.workspace.vault.token(self._name, self._user)
        return kept if kept is not None and kept.source == self.digest and not kept.is_due(self._keeper.now()) else None

    def _asked(self) -> Token:
        """The next token, kept and on record before it is used."""
        if self._unkept is not None and (token := self._kept(*self._unkept)).is_usable(self._keeper.now()):
            return token
        source = self._keeper.workspace.vault.source(self._name)
        if source is None or digest_of(source) != self.digest:
            raise TokenUnavailable(f"no token for {self._name}: it was set anew", hint="run it again")
        issued = self._issued(source)
        now = self._keeper.now()
        self._unkept = Token(issued.value, now, now + issued.life_s, self.digest), source.renewed(issued)
        return self._kept(*self._unkept)

    def _issued(self, source: TokenSource) -> Issued:
        """What `source` gives. It is on record before it is asked, and again where it gives nothing."""
        record = self._keeper.workspace.audit_log.record
        about = {"secret": str(self._name), "component": self._user, "from": source.asked}
        record(Event("secret.asked", "", "allow", detail=about))
        try:
            from host.runtime import token_requests  # noqa: PLC0415 - few tokens are asked for

            return token_requests.ask(source, self._name, self._keeper.egress)
        except HostError as error:
            record(Event("secret.asked", "", "deny", str(error), about))
            raise

    def _kept(self, token: Token, source: TokenSource) -> Token:
        self._keeper.workspace.vault.keep_token(self._name, self._user, token, source)
        self._unkept = None
        return token

    def _take(self) -> Slot | None:
        """A lease for this source; None while another process has it. It ends by itself: its holder may be killed."""
        name = f"token:{self._name}"
        with self._keeper.workspace.counters.counting() as tally:
            window = int(tally.now // _LEASE_S)
            now, before = Slot(name, window), Slot(name, window - 1)
            if any(tally.counts((now, before)).values()):
                return None
            tally.add({now: 1}, lambda _: tally.now + 2 * _LEASE_S)
            return now

    def _release(self, lease: Slot) -> None:
        try:
            with self._keeper.workspace.counters.counting() as tally:
                tally.add({lease: -1}, lambda _: tally.now + 2 * _LEASE_S)
        except StateError:
            return  # it ends by itself
