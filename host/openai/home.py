"""Where a client's operations run: a catalyst, found or loaded when the client is made."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from host.core import forks
from host.core.names import Reference
from host.errors import InputError, NotFound
from host.runtime.catalyst import Catalyst
from host.runtime.host import Host

if TYPE_CHECKING:
    from host.core.strict_json import Json
    from host.policy.document import Policy
    from host.runtime.deployment import Secret
    from host.secrets.value import SecretValue

INSTALLED: Final = "c:local.openai"
BUNDLED: Final = "openai"

ClientSource: TypeAlias = Catalyst | Host | Reference | None

_KEY = "the key is a secret of the catalyst, which this program need not hold"
_SERVER = "the server is the operator's choice"
REMEDIES: Final[Mapping[str, str]] = {
    "api_key": f"{_KEY}: host secret set OPENAI_API_KEY, or secrets={{'OPENAI_API_KEY': Secret(…)}} beside policy=",
    "admin_api_key": f"{_KEY}: host secret set OPENAI_ADMIN_KEY, or secrets={{'OPENAI_ADMIN_KEY': Secret(…)}}",
    "workload_identity": "a secret may have a source of tokens in place of a value: host secret set --help",
    "provider": f"{_SERVER}: host config set {INSTALLED}, or config={{'server': 'azure', …}} beside policy=",
    "base_url": f"{_SERVER}: host config set {INSTALLED} base_url …, or config={{'base_url': …}} beside policy=",
    "data_residency": f"{_SERVER}: host config set {INSTALLED} base_url …, or config={{'base_url': …}} beside policy=",
    "websocket_base_url": f"{_SERVER}: connections go to the catalyst's base_url",
    "http_client": "requests leave through the host alone: the policy has its certificates, time limits and upstreams",
}
"""Arguments of the official client that cannot work here, with what does in their place."""


def refuse(given: Mapping[str, Any], of: str) -> None:
    """Raises InputError, which names the remedy, for an argument of the official client that cannot work here; and
    TypeError for one that it has not."""
    for name, value in given.items():
        if name not in REMEDIES:
            raise TypeError(f"{of} got an unexpected keyword argument {name!r}")
        if value is not None:
            raise InputError(
                f"{name} cannot be given to a client whose requests run in a sandbox", field=name, hint=REMEDIES[name]
            )


class ClientHome:
    """`catalyst` runs the operations of one client, and of its copies. Made by `found`."""

    def __init__(self, catalyst: Catalyst, own: ExitStack) -> None:
        self.catalyst = catalyst
        self._own = own

    @classmethod
    def found(
        cls,
        source: ClientSource,
        policy: Policy | None,
        secrets: Mapping[str, str | SecretValue | Secret] | None,
        config: Mapping[str, Json] | None,
    ) -> ClientHome:
        """`source` is a loaded catalyst; the Host that loads it, None for one that this process's clients share; or the
        reference of an installed one. Without a reference it is the installed `c:local.openai`, with what is stored for
        it; with a `policy` the catalyst that comes with the host, with what is given. Raises what `Host.load` does."""
        given: dict[str, Any] = {"policy": policy, "secrets": secrets, "config": config}
        if isinstance(source, Catalyst):
            for name, one in given.items():
                if one is not None:
                    raise InputError(f"{name} is for loading a catalyst, and this one is loaded", field=name)
            return cls(source, ExitStack())
        if not isinstance(source, Host | Reference | None):
            kind = type(source).__name__
            raise InputError(f"a client cannot run in a {kind}", hint="hand over a Catalyst, a Host or a Reference")
        with ExitStack() as own:
            host = source if isinstance(source, Host) else own.enter_context(_SHARED)
            named = source if isinstance(source, Reference) else BUNDLED if policy is not None else INSTALLED
            try:
                catalyst = host.load(named, **given)
            except NotFound as error:
                if isinstance(source, Reference):
                    raise
                raise NotFound(
                    f"no catalyst for OpenAI is installed: {error.message}",
                    hint=f"host register {BUNDLED}; or grant it here: policy=Policy(…), secrets={{…}}",
                ) from None
            return cls(catalyst, own.pop_all())

    def close(self) -> None:
        """Close what was opened for it. Any number of times."""
        self._own.close()


class _SharedHost:
    """The Host of all clients that were given none: there is one for a process. It is closed with the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._host: Host | None = None
        self._users = 0
        self._generation = forks.generation

    def __enter__(self) -> Host:
        with self._lock:
            self._host = self._host or Host()
            self._users += 1
            return self._host

    def __exit__(self, *_: object) -> None:
        if self._generation != forks.generation:
            return
        with self._lock:
            self._users -= 1
            host, self._host = (None, self._host) if self._users else (self._host, None)
        if host is not None:
            host.close()


_SHARED = _SharedHost()


def _forget() -> None:
    """In a child of a fork."""
    global _SHARED  # noqa: PLW0603 - of the process
    _SHARED = _SharedHost()


os.register_at_fork(after_in_child=_forget)
