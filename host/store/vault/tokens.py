"""Tokens that expire, in place of a secret's value: where they come from, and what their issuer answers.

A TokenSource is kept in the vault in place of a value. It is asked for a token by `host.runtime.tokens`; this module
knows no network, no program and no clock.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, TypeAlias
from urllib.parse import quote_plus

from host.core.fields import FieldReader
from host.core.strict_json import Json, parse_object
from host.errors import HostError, InputError, VaultError
from host.policy.addresses import Network
from host.policy.document import Policy
from host.policy.tls import check_path
from host.policy.urls import Target, UrlError
from host.secrets.value import SecretValue

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_LIFE_S: Final = 24 * 3600.0
"""No token counts as valid for longer, whatever its issuer says."""
UNKNOWN_LIFE_S: Final = 300.0
"""How long a token counts as valid of which nobody says so."""

_AHEAD_S: Final = 300.0  # before its end a token is renewed, or in the last fifth of its life
_SPARE_S: Final = 5.0  # before its end a token is not used any more: a request takes time
_MAX_TOKEN: Final = 16 * 1024
_MAX_TIME: Final = 1e11  # the year 5138: milliseconds are none
_VALUES: Final = ("access_token", "accessToken", "token")  # RFC 6749, 5.1; Azure's and Kubernetes' programs
_ENDS: Final = ("expires_on", "expiry", "expiration", "expirationTimestamp")
_REASONS: Final = frozenset(  # RFC 6749, 5.2; any other text may hold what was sent
    {
        *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"),
        *("invalid_scope", "invalid_target", "temporarily_unavailable", "server_error", "access_denied"),
    }
)


class TokenAnswerError(Exception):
    """What came is no token. The message says why, in words that hold nothing of what came."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What an issuer answered. `life_s` is in seconds; `refresh_token` one that takes the place of the last."""

    value: SecretValue
    life_s: float
    refresh_token: SecretValue | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token in use: times are Unix time in seconds. `source` is the digest of the source that it comes from."""

    value: SecretValue
    obtained_at: float
    expires_at: float
    source: str

    @property
    def life_s(self) -> float:
        return self.expires_at - self.obtained_at

    def is_usable(self, now: float) -> bool:
        """Also False before it was obtained: the clock was put back, and its end says nothing."""
        return self.obtained_at - 60 <= now < self.expires_at - min(_SPARE_S, self.life_s / 10)

    def is_due(self, now: float) -> bool:
        """Whether it is time for the next one."""
        return not self.is_usable(now) or now >= self.expires_at - min(_AHEAD_S, self.life_s / 5)

    def sealed_text(self) -> str:
        """For the vault alone: it holds the value."""
        parts = {"value": self.value.reveal(), "from": self.obtained_at, "to": self.expires_at, "source": self.source}
        return json.dumps(parts)

    @classmethod
    def parse(cls, text: str) -> Token:
        """Raises VaultError for a text that `sealed_text` did not write."""
        fields = _fields(text)
        begin, end = fields.given.get("from"), fields.given.get("to")
        if not isinstance(begin, float | int) or not isinstance(end, float | int):
            raise VaultError("a kept token cannot be read")
        return cls(SecretValue(fields.text("value")), begin, end, fields.text("source"))


@dataclass(frozen=True, kw_only=True)
class OAuthSource:
    """An OAuth 2.0 token endpoint (RFC 6749), asked by client credentials (4.4), or with a `refresh_token` (6).
    `credentials` says where the client's own go: `basic` into a header (2.3.1), `body`. `more` are further parameters,
    like `audience`. `private` and `ca_file` are the policy of this one way out: as `allowed_private` and `ca_file` of
    any policy. `set_id` is another one each time that the vault gets the source. Raises InputError, which names the
    field."""

    token_url: str
    client_id: str
    client_secret: SecretValue | None = None
    refresh_token: SecretValue | None = None
    scope: str = ""
    credentials: Literal["basic", "body"] = "basic"
    more: Mapping[str, str] = field(default_factory=dict)
    private: tuple[str, ...] = ()
    ca_file: str | None = None
    set_id: str = field(default="", compare=False, repr=False)

    kind: ClassVar[str] = "oauth"

    def __post_init__(self) -> None:
        try:
            target = Target.parse(self.token_url)
        except UrlError as error:
            raise InputError(f"the token endpoint: {error.reason}", field="token_url") from None
        if target.scheme != "https" and not self.private:
            raise InputError(
                "the token endpoint is asked over https",
                field="token_url",
                hint="plain http only where --allow-private says that it is near",
            )
        if not self.client_id:
            raise InputError("the client has no id", field="client_id", hint="--client-id ID")
        if self.client_secret is None and self.refresh_token is None:
            raise InputError("client credentials need a secret", field="client_secret", hint="--client-secret SOURCE")
        Policy(allowed_private=self.private)
        check_path(self.ca_file)

    @property
    def target(self) -> Target:
        return Target.parse(self.token_url)

    @property
    def asked(self) -> str:
        """Whom it asks, for messages and records."""
        return self.target.at.endpoint

    @property
    def networks(self) -> tuple[Network, ...]:
        return Policy(allowed_private=self.private).terms().private

    def request(self) -> tuple[tuple[tuple[str, str], ...], bytes]:
        """The headers and the body of a request for a token: they hold the secrets."""
        form = {"grant_type": "client_credentials" if self.refresh_token is None else "refresh_token"}
        if self.refresh_token is not None:
            form["refresh_token"] = self.refresh_token.reveal()
        form |= ({"scope": self.scope} if self.scope else {}) | dict(self.more)
        headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")]
        if self.client_secret is not None and self.credentials == "basic":
            from base64 import b64encode  # noqa: PLC0415 - as the next line needs it

            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret.reveal())}"
            headers.append(("Authorization", f"Basic {b64encode(pair.encode()).decode()}"))
        else:
            form["client_id"] = self.client_id
            if self.client_secret is not None:
                form["client_secret"] = self.client_secret.reveal()
        return tuple(headers), "&".join(
            f"{quote_plus(name)}={quote_plus(text)}" for name, text in form.items()
        ).encode()

    def secrets(self) -> tuple[SecretValue, ...]:
        return tuple(one for one in (self.client_secret, self.refresh_token) if one is not None)

    def renewed(self, issued: Issued) -> OAuthSource:
        """The source after `issued`: with the refresh token that takes the place of its own."""
        if issued.refresh_token is None or self.refresh_token is None:
            return self
        return replace(self, refresh_token=issued.refresh_token)

    def __str__(self) -> str:
        how = "client credentials" if self.refresh_token is None else "a refresh token"
        return f"tokens of {self.target.shown}, by {how} of the client {self.client_id}"


@dataclass(frozen=True, kw_only=True)
class CommandSource:
    """A program that prints a token: `argv`, an absolute path and arguments, with no shell. It gets PATH, HOME and the
    like, and the variables named in `environment`. `life_s` counts where it does not say how long the token is
    valid."""

    argv: tuple[str, ...]
    environment: tuple[str, ...] = ()
    life_s: float = UNKNOWN_LIFE_S
    set_id: str = field(default="", compare=False, repr=False)

    kind: ClassVar[str] = "exec"

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0].startswith("/") or any("\0" in word for word in self.argv):
            raise InputError("the program is not an absolute path", field="exec")
        if not 1 <= self.life_s <= MAX_LIFE_S:
            raise InputError("a token's time is from 1s to 1d", field="lifetime")

    @property
    def program(self) -> str:
        """Its name, for messages: an argument may hold a secret."""
        return self.argv[0].rpartition("/")[2]

    @property
    def asked(self) -> str:
        """Whom it asks, for messages and records."""
        return self.program

    def secrets(self) -> tuple[SecretValue, ...]:
        return ()

    def renewed(self, issued: Issued) -> CommandSource:
        del issued
        return self

    def __str__(self) -> str:
        return f"tokens that the program {self.program} prints"


TokenSource: TypeAlias = OAuthSource | CommandSource


def write_source(source: TokenSource) -> str:
    """For the vault alone: it holds the secrets."""
    parts: dict[str, Json] = {"kind": source.kind}
    for name, value in vars(source).items():
        shown = value.reveal() if isinstance(value, SecretValue) else value
        parts[name] = dict(shown) if isinstance(shown, Mapping) else list(shown) if isinstance(shown, tuple) else shown
    return json.dumps(parts)


def read_source(text: str) -> TokenSource:
    """Raises VaultError for a text that `write_source` did not write."""
    fields = _fields(text)
    given: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in fields.given.items()}
    kind = given.pop("kind", None)
    try:
        if kind == CommandSource.kind:
            return CommandSource(**given)
        secrets = {name: given[name] and SecretValue(given[name]) for name in ("client_secret", "refresh_token")}
        return OAuthSource(**{**given, **secrets})
    except (HostError, TypeError, KeyError):
        raise VaultError("a kept source of tokens cannot be read", hint="set it again") from None


def digest_of(source: TokenSource) -> str:
    """Of what the operator set, and of when: what was set again is another source, though only its refresh token is
    another. A refresh token that took the place of another by a renewal changes nothing."""
    if isinstance(source, OAuthSource):
        source = replace(source, refresh_token=source.refresh_token and SecretValue("kept"))
    return hashlib.sha256(write_source(source).encode()).hexdigest()


def read_token_answer(status: int, content_type: str, body: bytes) -> Issued:
    """What a token endpoint answered (RFC 6749, 5). Raises TokenAnswerError."""
    if 300 <= status < 400:
        raise TokenAnswerError(f"it answered {status}, and a redirect is not followed")
    answer = _object(body)
    if status != 200:
        reason = (answer or {}).get("error")
        told = f": {reason}" if isinstance(reason, str) and reason in _REASONS else ""
        raise TokenAnswerError(f"it answered {status}{told}")
    if answer is None:
        kind = content_type.partition(";")[0].strip().lower()
        raise TokenAnswerError("it answered with a page" if kind == "text/html" else "its answer is no JSON object")
    kind = answer.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise TokenAnswerError("the token that it gave is not of the type Bearer")
    refresh = answer.get("refresh_token")
    return Issued(
        _value(answer.get("access_token")),
        _life(answer.get("expires_in"), UNKNOWN_LIFE_S),
        None if refresh is None else _value(refresh),
    )


def read_printed(output: bytes, *, otherwise_s: float, now: float) -> Issued:
    """What a program printed: JSON with a token and its end, or a token alone, which is valid for `otherwise_s`. Raises
    TokenAnswerError."""
    if not output.lstrip().startswith(b"{"):
        try:
            return Issued(_value(output.decode().strip()), otherwise_s)
        except UnicodeDecodeError:
            raise TokenAnswerError("what it printed is not UTF-8") from None
    answer = _object(output)
    if answer is None:
        raise TokenAnswerError("what it printed is no JSON")
    if isinstance(within := answer.get("status"), dict):  # Kubernetes' ExecCredential
        answer = within
    value = _value(next((answer[name] for name in _VALUES if name in answer), None))
    if "expires_in" in answer:
        return Issued(value, _life(answer["expires_in"], otherwise_s))
    end = next((answer[name] for name in _ENDS if answer.get(name) is not None), None)
    return Issued(value, otherwise_s if end is None else _life(_time(end) - now, otherwise_s))


def _object(body: bytes) -> dict[str, Json] | None:
    try:
        return parse_object(body, "the answer", most=1_000, names_once=True)
    except InputError:
        return None


def _value(given: Json) -> SecretValue:
    if not isinstance(given, str) or not given or len(given) > _MAX_TOKEN or not given.isascii():
        raise TokenAnswerError("there is no token in it that can be used")
    try:
        return SecretValue(given)
    except InputError:
        raise TokenAnswerError("there is no token in it that can be used") from None


def _life(given: Json, otherwise_s: float) -> float:
    """Seconds from a number, or a text of one as some servers have it; `otherwise_s` for none."""
    if given is None:
        return otherwise_s
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 20:
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise TokenAnswerError("the time for which it is valid is not a number of seconds above 0")
    return float(min(given, MAX_LIFE_S))


def _time(given: Json) -> float:
    """Unix time from that, or from a date in RFC 3339."""
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 20:
        return float(given)
    if isinstance(given, str):
        try:
            parsed = datetime.fromisoformat(given)
        except ValueError:
            raise TokenAnswerError("the time at which it ends is no date") from None
        if parsed.tzinfo is None:
            raise TokenAnswerError("the time at which it ends has no time zone")
        return parsed.timestamp()
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < _MAX_TIME:
        raise TokenAnswerError("the time at which it ends is no date")
    return float(given)


def _fields(text: str) -> FieldReader:
    try:
        return FieldReader(parse_object(text, "what is kept"), error=lambda at, problem: VaultError(f"{at} {problem}"))
    except InputError:
        raise VaultError("what is kept cannot be read") from None
