"""API keys: who may use a server, for what, and how much.

Of a key's text only the SHA-256 is stored. A slow hash is for passwords, which people choose. Nobody finds 190 random
bits by trying, so a plain hash protects as well, and costs a request nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, Literal, get_args

from host.core.audit import Event
from host.core.fields import did_you_mean
from host.core.names import Reference
from host.core.quantities import Quota
from host.errors import HostError, InputError, NotFound, StateError
from host.store.access.key_text import KEY_TYPES, KeyType, id_in, new_id, new_text
from host.store.audit_log.log import AuditLog, Change
from host.store.connections import Row, StateConnection
from host.store.sql import select
from host.store.tables import api_keys

KeyScope = Literal[
    "run",  # run operations
    "runs",  # list the runs of the key itself, and see their logs
    "components",  # search and inspect
    "metrics",
    "manage",  # secrets, policies, the audit log, keys, the console
]
SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)
AT_MOST: Final[Mapping[KeyType, frozenset[KeyScope]]] = {
    "public": frozenset({"run"}),
    "secret": frozenset({"run", "runs", "components", "metrics"}),
    "admin": frozenset(SCOPES),
}
BY_DEFAULT: Final[Mapping[KeyType, frozenset[KeyScope]]] = {
    **AT_MOST,
    "secret": frozenset({"run", "runs", "components"}),
}

Network = IPv4Network | IPv6Network
KeyState = Literal["active", "expired", "revoked"]

_NAME = re.compile(r"(?!host_)[A-Za-z0-9](?:[A-Za-z0-9 ._@-]{0,62}[A-Za-z0-9._@-])?\Z")
_GLOB = re.compile(r"[!-+\--~]{1,200}\Z")  # visible ASCII without the comma
_OPERATIONS = re.compile(r"[A-Za-z0-9_.*?\[\]!-]{1,200}\Z")
_MOST_CONCURRENCY: Final = 10_000
_CONCURRENCY: Final = "concurrency:"  # begins an entry of the row's scopes that is that number
_OPERATION: Final = "operation:"  # begins an entry of the row's scopes that is such a glob
_LATEST: Final = 253_402_300_799  # the end of the year 9999
_NO_HASH: Final = os.urandom(32)  # of no known text; comparing with it takes as long as with any other


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its text. `rate_limit` and `request_budget` count requests, `token_budget` tokens; None: no bound.
    An empty `ip_allowlist`, `models` (globs) or `catalysts` (a reference without a version: all versions) allows any.
    `operations` are globs over the names of operations; empty: all of them that a key need not name, but for a public
    key only those that are public, or read.
    `concurrency` is how many of its runs may have a sandbox at once in each process; None: as many as it leaves free.
    Times are Unix time in seconds."""

    id: str
    name: str
    type: KeyType
    scopes: frozenset[KeyScope]
    rate_limit: Quota | None
    request_budget: Quota | None
    token_budget: Quota | None
    ip_allowlist: tuple[Network, ...]
    models: tuple[str, ...]
    catalysts: tuple[Reference, ...]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    rotated_at: float | None
    operations: tuple[str, ...] = ()
    concurrency: int | None = None

    def state(self, now: float) -> KeyState:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"

    def as_dict(self) -> dict[str, Any]:
        """The JSON that people and programs are shown. `operations` and `concurrency` are in it where the key has
        some."""
        return {
            "id": self.id,
            "name": self.name,
            "type": self.type,
            "scopes": [scope for scope in SCOPES if scope in self.scopes],
            **{name: None if (one := getattr(self, name)) is None else str(one) for name in _QUOTAS},
            **({"operations": list(self.operations)} if self.operations else {}),
            **({"concurrency": self.concurrency} if self.concurrency else {}),
            **{name: [str(one) for one in getattr(self, name)] for name in _LISTS},
            **{name: getattr(self, name) for name in _TIMES},
        }


_QUOTAS: Final = ("rate_limit", "request_budget", "token_budget")
_LISTS: Final = ("ip_allowlist", "models", "catalysts")
_BOUNDS: Final = (*_LISTS, "operations")
_CHANGEABLE: Final = {*_QUOTAS, *_BOUNDS, "scopes", "expires_at", "concurrency"}
_TIMES: Final = ("created_at", "expires_at", "revoked_at", "rotated_at")


@dataclass(frozen=True, slots=True)
class _HashedKey:
    """A key with the hashes of its texts. The `previous` text works until `previous_until`. `key` None: no text
    matches."""

    key: ApiKey | None
    hash: bytes
    previous: bytes
    previous_until: float


_NO_KEY: Final = _HashedKey(None, _NO_HASH, _NO_HASH, 0.0)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a caller showed: the text of a key, of which `hash` is the hash; or a session of the console, by its id,
    that began at `began_at` (Unix time) with the key."""

    hash: bytes = field(default=b"", repr=False)
    session: str = ""
    began_at: float = 0.0

    @classmethod
    def of_text(cls, text: str) -> Proof:
        return cls(_hash(text))


class KeyRing:
    """All keys at one moment; a server asks it at each request. `any`: whether there ever was a key. Revoked and
    expired keys count: a server whose only key has ended is not open to all."""

    def __init__(self, keys: Iterable[_HashedKey]) -> None:
        self._by_id = {one.key.id: one for one in keys if one.key is not None}
        self.any = bool(self._by_id)

    def __repr__(self) -> str:
        return f"KeyRing({len(self._by_id)} keys)"

    def authenticate(self, text: str, now: float) -> ApiKey | None:
        """The active key with this text; None if there is none. The time that it takes reveals neither whether there is
        a key with that id, nor how much of the text is right."""
        found = self._by_id.get(id_in(text), _NO_KEY)
        given = _hash(text)
        current = hmac.compare_digest(given, found.hash)
        previous = hmac.compare_digest(given, found.previous) and now < found.previous_until
        if found.key is None or not (current or previous) or found.key.state(now) != "active":
            return None
        return found.key

    def still_good(self, key: ApiKey, proof: Proof, now: float) -> bool:
        """Whether a caller who was authenticated as the holder of `key` would be so now, with the same permissions."""
        found = self._by_id.get(key.id, _NO_KEY)
        if found.key is None or found.key.state(now) != "active":
            return False
        if proof.session:
            shown = found.key.rotated_at is None or found.key.rotated_at <= proof.began_at
        else:
            shown = proof.hash == found.hash or (proof.hash == found.previous and now < found.previous_until)
        return shown and not _narrowed(key, found.key)

    def active(self, ident: str, now: float) -> ApiKey | None:
        """The active key with that id, for a caller who was authenticated earlier; None if there is none."""
        key = self._by_id.get(ident, _NO_KEY).key
        return key if key is not None and key.state(now) == "active" else None


class ApiKeys:
    """One per process, thread-safe. Each change is recorded in its transaction. Methods raise StateError, also if a row
    cannot be read: then no key works."""

    def __init__(self, audit_log: AuditLog) -> None:
        self._audit_log = audit_log

    def create(
        self,
        *,
        name: str,
        type: KeyType,  # noqa: A002 - as it is called everywhere else
        scopes: Collection[KeyScope] | None = None,
        rate_limit: Quota | None = None,
        request_budget: Quota | None = None,
        token_budget: Quota | None = None,
        ip_allowlist: Sequence[Network] = (),
        models: Sequence[str] = (),
        catalysts: Sequence[Reference] = (),
        operations: Sequence[str] = (),
        expires_at: float | None = None,
        concurrency: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Returns the key and its text, which is not stored. `scopes` None: the type's default scopes. Raises
        InputError, which names the field."""
        now = time.time()
        key = _checked(
            ApiKey(
                id=new_id(),
                name=_check_name(name),
                type=_check_type(type),
                scopes=check_scopes(type, scopes),
                rate_limit=rate_limit,
                request_budget=request_budget,
                token_budget=token_budget,
                ip_allowlist=tuple(ip_allowlist),
                models=tuple(models),
                catalysts=tuple(catalysts),
                created_at=now,
                expires_at=_check_end(expires_at, now),
                revoked_at=None,
                rotated_at=None,
                operations=tuple(operations),
                concurrency=concurrency,
            )
        )
        text = new_text(key.type, key.id)
        with self._audit_log.changing() as change:
            if any(one.name == name and one.revoked_at is None for one in _keys(change.connection)):
                raise InputError(
                    f"there is a key {name!r} already",
                    field="name",
                    hint=f"host key rotate {_quoted(name)} gives it a new text, and revoke ends it",
                )
            change.insert(api_keys, **_as_row(key), hash=_hash(text))
            change.record(Event("api_key.created", "", detail=_recorded(key)))
        return key, text

    def all(self) -> list[ApiKey]:
        """All keys, revoked ones too, in the order of their creation."""
        with self._audit_log.database.reading() as connection:
            return _keys(connection)

    def find(self, name_or_id: str) -> ApiKey:
        """The key with that id or name. Of several with one name: the one that is not revoked, else the latest. Raises
        NotFound."""
        with self._audit_log.database.reading() as connection:
            return _find(_keys(connection), name_or_id)

    def rotate(self, name_or_id: str, overlap_s: float = 0.0) -> tuple[ApiKey, str]:
        """Give the key a new text. The text before it works for `overlap_s` seconds more, and older ones no longer.
        Raises NotFound; InputError for a key that was revoked or has expired."""
        now = time.time()
        if not 0 <= overlap_s <= _LATEST - now:
            raise InputError("the overlap is not a duration", field="overlap", hint="like 30m or 1h")
        with self._audit_log.changing() as change:
            key = _find(_keys(change.connection), name_or_id)
            if (state := key.state(now)) != "active":
                was = "was revoked" if state == "revoked" else "has expired"
                raise InputError(f"the key {key.name!r} {was}", field="name", hint="host key create makes another")
            text = new_text(key.type, key.id)
            before: dict[str, Any] = {"previous_hash": None, "previous_until": None}
            if overlap_s:
                hashed = change.connection.execute(select(api_keys.c.hash).where(api_keys.c.id == key.id)).scalar_one()
                before = {"previous_hash": hashed, "previous_until": now + overlap_s}
            _set(change, key, hash=_hash(text), rotated_at=now, **before)
            change.record(Event("api_key.rotated", "", detail={**_recorded(key), "overlap_s": overlap_s}))
            return _find(_keys(change.connection), key.id), text

    def update(self, name_or_id: str, **changes: Any) -> ApiKey:
        """Give the key other bounds: `changes` are fields as in `create`, but for its name and type. Its text stays,
        and what it has spent. Raises NotFound; InputError, which names the field, also for a key that was revoked."""
        if unknown := changes.keys() - _CHANGEABLE:
            raise InputError(f"a key's {min(unknown)} does not change", field=min(unknown))
        now = time.time()
        with self._audit_log.changing() as change:
            key = _find(_keys(change.connection), name_or_id)
            if key.revoked_at is not None:
                raise InputError(
                    f"the key {key.name!r} was revoked", field="name", hint="host key create makes another"
                )
            given: dict[str, Any] = {
                name: tuple(value) if name in _BOUNDS else value for name, value in changes.items()
            }
            if "scopes" in given:
                given["scopes"] = check_scopes(key.type, given["scopes"])
            if "expires_at" in given:
                given["expires_at"] = _check_end(given["expires_at"], now)
            found = _checked(replace(key, **given))
            if found != key:
                _set(change, key, **{name: value for name, value in _as_row(found).items() if name != "id"})
                change.record(Event("api_key.changed", "", detail={**_recorded(found), "changed": sorted(given)}))
        return found

    def revoke(self, name_or_id: str) -> ApiKey:
        """End the key for good. Its name becomes free. Raises NotFound."""
        with self._audit_log.changing() as change:
            key = _find(_keys(change.connection), name_or_id)
            if key.revoked_at is None:
                _set(change, key, revoked_at=time.time(), previous_hash=None, previous_until=None)
                change.record(Event("api_key.revoked", "", detail=_recorded(key)))
            return _find(_keys(change.connection), key.id)

    def snapshot(self) -> KeyRing:
        """The keys to authenticate requests with, after a check of the state digest. Raises StateError, also if other
        hands changed the state."""
        with self._audit_log.database.snapshot() as connection:
            self._audit_log.check(connection)
            return KeyRing(_hashed_key(row) for row in connection.execute(select(api_keys)))


def network(text: str) -> Network:
    """A network like `10.0.0.0/8`, or a single address. Raises InputError."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise InputError(
            str(error)[:200], field="ip_allowlist", hint="a network like 10.0.0.0/8 or an address like 10.0.0.5"
        ) from None


def _check_name(name: str) -> str:
    if not _NAME.match(name):
        raise InputError(
            f"{name[:80]!r} is no name for a key",
            field="name",
            hint="up to 64 letters, digits, blanks and . _ @ -, like ci",
        )
    return name


def _check_type(kind: str) -> KeyType:
    for one in KEY_TYPES:
        if one == kind:
            return one
    raise InputError(f"{kind[:80]!r} is no type of a key", field="type", hint=f"one of {', '.join(KEY_TYPES)}")


def check_scopes(kind: KeyType, wanted: Collection[str] | None) -> frozenset[KeyScope]:
    """The scopes `wanted`, if a key of this type may have them; None: the type's default scopes. Raises InputError."""
    if wanted is None:
        return BY_DEFAULT[kind]
    found = frozenset(scope for scope in SCOPES if scope in wanted)
    for one in wanted:
        if one not in SCOPES:
            raise InputError(f"{one[:80]!r} is no scope", field="scopes", hint=f"one of {', '.join(SCOPES)}")
        if one not in AT_MOST[kind]:
            able = " or ".join(name for name in KEY_TYPES if one in AT_MOST[name])
            hint = f"a key of the type {able} can"
            raise InputError(f"a key of the type {kind} cannot have the scope {one}", field="scopes", hint=hint)
    if not found:
        raise InputError(
            "a key without a scope is good for nothing", field="scopes", hint=f"one of {', '.join(SCOPES)}"
        )
    return found


def _checked(key: ApiKey) -> ApiKey:
    """The key with each of its bounds once. Raises InputError for one that is none."""
    if key.concurrency is not None and not 1 <= key.concurrency <= _MOST_CONCURRENCY:
        raise InputError("that is no number of runs", field="concurrency", hint=f"1 to {_MOST_CONCURRENCY}")
    return replace(
        key,
        ip_allowlist=tuple(dict.fromkeys(key.ip_allowlist)),
        models=tuple(dict.fromkeys(map(_check_glob, key.models))),
        catalysts=tuple(dict.fromkeys(map(_check_catalyst, key.catalysts))),
        operations=tuple(dict.fromkeys(map(operation_glob, key.operations))),
    )


def _narrowed(before: ApiKey, now: ApiKey) -> bool:
    """Whether the key may do less than before. Its quotas do not count: they are for requests to come."""
    for name in _BOUNDS:
        old, new = getattr(before, name), getattr(now, name)
        if new != old and new and not (old and set(old) <= set(new)):
            return True
    return not before.scopes <= now.scopes or (now.type == "public" and bool(before.operations) > bool(now.operations))


def _check_end(expires_at: float | None, now: float) -> float | None:
    if expires_at is not None and not now < expires_at <= _LATEST:
        raise InputError(
            "it would have expired already" if expires_at <= now else "no date is as late as that", field="expires_at"
        )
    return expires_at


def operation_glob(text: str) -> str:
    """`text`, if it is a name of an operation or a pattern of names. Raises InputError."""
    if not _OPERATIONS.match(text):
        raise InputError(
            f"{text[:80]!r} names no operations",
            field="operations",
            hint="a name like models.list, or a pattern like chat.*",
        )
    return text


def _check_glob(text: str) -> str:
    if not _GLOB.match(text):
        raise InputError(
            f"{text[:80]!r} names no models", field="models", hint="a name like gpt-4o, or a pattern like gpt-*"
        )
    return text


def _check_catalyst(reference: Reference) -> Reference:
    if reference.type != "catalyst":
        raise InputError(f"{reference} is no catalyst", field="catalysts", hint="like c:local.openai")
    return reference


def _find(keys: Sequence[ApiKey], name_or_id: str) -> ApiKey:
    named = [one for one in keys if name_or_id == one.name]
    in_turn = [one for one in keys if one.id == name_or_id]
    in_turn += [one for one in named if one.revoked_at is None]
    in_turn += reversed(named)
    if not in_turn:
        shown = repr(name_or_id) if _NAME.match(name_or_id) else "that"  # it may be the text of a key
        hint = did_you_mean(name_or_id, (one.name for one in keys), "host key list shows those there are")
        raise NotFound(f"no key is called {shown}", field="name", hint=hint)
    return in_turn[0]


def _set(change: Change, key: ApiKey, **values: Any) -> None:
    change.update(api_keys, {"id": key.id}, **values)


def _recorded(key: ApiKey) -> dict[str, Any]:
    """The key in the audit log: its permissions, and nothing that helps to use it."""
    return {
        name: value for name, value in key.as_dict().items() if value not in (None, []) and not name.endswith("_at")
    }


def _as_row(key: ApiKey) -> dict[str, Any]:
    """Operations and the concurrency stand among the scopes: a host that does not know them cannot read the key, and
    admits nobody."""
    listed = {"scopes", *_LISTS}
    shown = key.as_dict()
    shown["scopes"] += [f"{_OPERATION}{glob}" for glob in shown.pop("operations", ())]
    shown["scopes"] += [f"{_CONCURRENCY}{most}" for most in (shown.pop("concurrency", None),) if most]
    return {name: json.dumps(value) if name in listed else value for name, value in shown.items()}


def _keys(connection: StateConnection) -> list[ApiKey]:
    return [_key(row) for row in connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))]


def _hashed_key(row: Row) -> _HashedKey:
    return _HashedKey(_key(row), row.hash, row.previous_hash or _NO_HASH, row.previous_until or 0.0)


def _key(row: Row) -> ApiKey:
    """Raises StateError for a row that this program does not write."""
    try:
        kind = _check_type(row.type)
        quotas = {name: getattr(row, name) for name in _QUOTAS}
        listed: list[str] = json.loads(row.scopes)
        operations = [one for one in listed if one.startswith(_OPERATION)]
        numbers = [one for one in listed if one.startswith(_CONCURRENCY)]
        return ApiKey(
            id=row.id,
            name=row.name,
            type=kind,
            scopes=check_scopes(kind, [one for one in listed if one not in (*operations, *numbers)]),
            **{name: None if text is None else Quota.parse(text) for name, text in quotas.items()},
            ip_allowlist=tuple(network(text) for text in json.loads(row.ip_allowlist)),
            models=tuple(_check_glob(text) for text in json.loads(row.models)),
            catalysts=tuple(Reference.parse(text) for text in json.loads(row.catalysts)),
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            rotated_at=row.rotated_at,
            operations=tuple(operation_glob(one.removeprefix(_OPERATION)) for one in operations),
            concurrency=int(numbers[0].removeprefix(_CONCURRENCY)) if numbers else None,
        )
    except (HostError, ValueError, TypeError, AttributeError) as error:
        raise StateError(
            "an API key cannot be read: its row was changed", hint="put back a backup of the state"
        ) from error


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name
