"""Authentication at a registry, in three steps.

1. `parse_challenges` reads `WWW-Authenticate` of a 401 (RFC 9110, section 11.6.1).
2. A CredentialSource finds the user's credential, for example in docker's configuration.
3. `authorization` answers a challenge: a password for `Basic`, or a token (the distribution project's token
   authentication: `GET` with or without a password, OAuth2's `POST` with an identity token) for `Bearer`.

Nothing is looked up before a registry asks for it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import httpx2

from host.core import environment
from host.core.strict_json import Json, parse_object
from host.errors import InputError, RegistryError
from host.oci import failures
from host.oci.reference import DOCKER_HUB, is_loopback
from host.secrets.value import SecretValue, Unspoken

# challenges

_MAX_FIELD = 8 * 1024
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=[\s,]|$)")
_PARAMETER = re.compile(rf"[\s,]*({_WORD})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|({_WORD}))")
_ESCAPE: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of `WWW-Authenticate`. `scheme` and the names of `parameters` are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(fields: Iterable[str]) -> tuple[Challenge, ...]:
    """Returns the challenges in the values of the header, in order. Ignores the rest of a value after an error."""
    return tuple(challenge for field in fields for challenge in _challenges(field[:_MAX_FIELD]))


def _challenges(field: str) -> Iterator[Challenge]:
    at = 0
    while scheme := _SCHEME.match(field, at):
        at = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(field, at):
            at = parameter.end()
            quoted, word = parameter[2], parameter[3]
            value = _ESCAPE.sub(r"\1", quoted) if quoted is not None else word
            parameters.setdefault(parameter[1].lower(), value)
        yield Challenge(scheme[1].lower(), parameters)


# credentials, from docker's documentation of `config.json` (`auths`, `credHelpers`, `credsStore`) and the README of
# docker/docker-credential-helpers

_DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"  # `docker login` stores Docker Hub under it
_IDENTITY_TOKEN_USER: Final = "<token>"  # noqa: S105 - the user name that marks the secret as an identity token
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_REGISTRY_KEY = re.compile(r"(?:https?://)?([^/]+)(?:/(?:v[12]/?)?)?\Z")  # a key with another path is no registry
_HELPER_TIMEOUT_S = 30.0
_MAX_HELPER_OUTPUT_BYTES = 64 * 1024


class Credential(Unspoken):
    """A user name and password, or, with `is_identity_token`, a token to exchange for others."""

    __slots__ = ("is_identity_token", "secret", "username")

    def __init__(self, username: str, secret: SecretValue, *, is_identity_token: bool = False) -> None:
        self.username = username
        self.secret = secret
        self.is_identity_token = is_identity_token

    def basic(self) -> SecretValue:
        """The header value `Basic …` (RFC 7617)."""
        pair = f"{self.username}:{self.secret.reveal()}".encode()
        return SecretValue(f"Basic {b64encode(pair).decode()}")


class CredentialSource(Protocol):
    """Finds credentials."""

    def find(self, registry: str) -> Credential | None:
        """Returns the credential for exactly `registry`, a host with an optional port. Raises InputError."""
        ...


class NoCredentials:
    """A CredentialSource without credentials."""

    def find(self, registry: str) -> Credential | None:  # noqa: ARG002 - the signature of CredentialSource
        return None


class DockerCredentials:
    """The credentials in docker's configuration file `config`, which may be missing.

    Asks the helper in `credHelpers` for the registry, else the one in `credsStore`; then reads `auths`.
    """

    def __init__(self, config: Path) -> None:
        self._config = config

    def find(self, registry: str) -> Credential | None:
        """Raises InputError if the file or its helper cannot be used. The message quotes nothing of its content."""
        settings = self._read()
        key = _DOCKER_HUB_KEY if registry == DOCKER_HUB else registry
        helpers = _table(settings, "credHelpers")
        helper = helpers.get(key, helpers.get(registry, settings.get("credsStore")))
        found = self._ask_helper(helper, key) if helper else None
        return found or self._from_auths(_table(settings, "auths"), registry, key)

    def _read(self) -> Mapping[str, Json]:
        try:
            return parse_object(self._config.read_bytes(), str(self._config))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise InputError(f"cannot read {str(self._config)!r}: {error.strerror}") from None

    def _from_auths(self, auths: Mapping[str, Json], registry: str, key: str) -> Credential | None:
        names = [key, *(name for name in auths if (match := _REGISTRY_KEY.match(name)) and match[1] == registry)]
        entry = next((auths[name] for name in names if isinstance(auths.get(name), dict)), None)
        if not entry:
            return None
        try:
            return _parse_entry(entry)
        except (InputError, ValueError):
            raise InputError(f"{str(self._config)!r}: the entry for {registry} cannot be read") from None

    def _ask_helper(self, helper: Json, key: str) -> Credential | None:
        """Runs `docker-credential-HELPER get`.

        Returns None for every failure of the helper, because the protocol distinguishes "no credential" from "failed"
        only in the text of its message. The registry then reports the missing credential.
        """
        if not isinstance(helper, str) or not _HELPER_NAME.match(helper):
            raise InputError(f"{str(self._config)!r}: the name of a credential helper is invalid")
        children = environment.for_children()
        program = shutil.which(f"docker-credential-{helper}", path=children.get("PATH", ""))
        if program is None:
            raise InputError(
                f"docker-credential-{helper}, which {str(self._config)!r} names, is not installed",
                hint="install it, or remove it from credsStore and credHelpers",
            )
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own configuration names the program
                [program, "get"],
                input=key.encode(),
                capture_output=True,
                env=children,
                timeout=_HELPER_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"docker-credential-{helper} did not answer in {_HELPER_TIMEOUT_S:.0f} s") from None
        except OSError as error:
            raise InputError(f"docker-credential-{helper} cannot be run: {error.strerror}") from None
        if done.returncode != 0:
            return None
        return _parse_helper_output(helper, done.stdout)


def _parse_helper_output(helper: str, output: bytes) -> Credential | None:
    invalid = InputError(f"docker-credential-{helper} did not answer as the protocol says")
    if len(output) > _MAX_HELPER_OUTPUT_BYTES:
        raise invalid
    try:
        answer = parse_object(output, "the answer")
        username, secret = answer.get("Username", ""), answer.get("Secret", "")
        if not isinstance(username, str) or not isinstance(secret, str):
            raise invalid
        return _credential(username, secret, is_identity_token=username == _IDENTITY_TOKEN_USER) if secret else None
    except InputError:
        raise invalid from None


def _parse_entry(entry: Mapping[str, Json]) -> Credential | None:
    """Parses an entry of `auths`. Raises InputError or ValueError."""
    if token := entry.get("identitytoken"):
        return _credential("", token, is_identity_token=True)
    if encoded := entry.get("auth"):
        username, _, password = b64decode(encoded, validate=True).decode().rstrip("\0").partition(":")
        return _credential(username, password)
    return _credential(entry.get("username", ""), entry["password"]) if entry.get("password") else None


def _credential(username: Json, secret: Json, *, is_identity_token: bool = False) -> Credential:
    if not isinstance(username, str) or not isinstance(secret, str):
        raise InputError("a credential is not text")
    return Credential(username, SecretValue(secret), is_identity_token=is_identity_token)


def _table(settings: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    value = settings.get(name)
    return value if isinstance(value, dict) else {}


# tokens

_CLIENT_ID: Final = "catalyst-host"
_MAX_TOKEN_BYTES = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")
_ISSUE = "give a token"  # completes "asked to …"


def authorization(
    client: httpx2.Client,
    base: httpx2.URL,
    registry: str,
    challenges: Sequence[Challenge],
    credentials: CredentialSource,
) -> SecretValue | None:
    """Returns the value of `Authorization` that answers `challenges`, or None without a credential for them.

    `base` is a URL of the registry. Raises RegistryError, TransientError, and InputError if the credentials cannot be
    read.
    """
    for challenge in challenges:
        if challenge.scheme == "bearer":
            realm = _realm(challenge, base)
            return _request_token(client, realm, challenge, credentials.find(registry), registry)
    if any(challenge.scheme == "basic" for challenge in challenges):
        credential = credentials.find(registry)
        return credential.basic() if credential and not credential.is_identity_token else None
    return None


def _realm(challenge: Challenge, base: httpx2.URL) -> httpx2.URL:
    """Returns the URL that issues tokens.

    Raises RegistryError for plain HTTP, unless the registry speaks plain HTTP too and the realm is on the same host, or
    both are on this machine: a password goes out in plain text only where the registry's own would. Which address the
    host may have is checked when it is connected to (`host.oci.network`).
    """
    try:
        realm = httpx2.URL(challenge.parameters.get("realm", ""))
    except httpx2.InvalidURL:
        realm = httpx2.URL("")
    same = realm.host == base.host or (is_loopback(base.host) and is_loopback(realm.host))
    near = base.scheme == "http" and same
    if not realm.host or realm.userinfo or not (realm.scheme == "https" or (realm.scheme == "http" and near)):
        raise RegistryError(f"{base.host} wants credentials sent to a place that is not safe")
    return realm


def _request_token(
    client: httpx2.Client, realm: httpx2.URL, challenge: Challenge, credential: Credential | None, registry: str
) -> SecretValue:
    wanted = {name: challenge.parameters[name] for name in ("service", "scope") if name in challenge.parameters}
    if credential is not None and credential.is_identity_token:
        form = {
            "grant_type": "refresh_token",
            "client_id": _CLIENT_ID,
            "refresh_token": credential.secret.reveal(),
            **wanted,
        }
        request = client.build_request("POST", realm, data=form)
    else:
        account = {"account": credential.username} if credential else {}
        request = client.build_request("GET", realm.copy_merge_params({**wanted, "client_id": _CLIENT_ID, **account}))
        if credential:
            request.headers["Authorization"] = credential.basic().reveal()
    with failures.translating(realm.host, _ISSUE):
        response = client.send(request, stream=True)
        try:
            if response.status_code != httpx2.codes.OK:
                failures.raise_for_status(response, registry, _ISSUE)
            body = failures.read_at_most(response, _MAX_TOKEN_BYTES)
        finally:
            response.close()
    return _parse_token(body, realm.host)


def _parse_token(body: bytes, host: str) -> SecretValue:
    try:
        answer = parse_object(body, "the answer", most=1_000, names_once=True)
    except InputError:
        answer = {}
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise RegistryError(f"{host} answered with no token that can be used")
    return SecretValue(f"Bearer {token}")
