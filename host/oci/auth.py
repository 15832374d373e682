"""What a server asks for when it answers 401: the field `WWW-Authenticate` (RFC 9110, section 11.6.1).

Who the registry is told that we are: what `docker login` left behind.

Sources: docker's documentation of `config.json` (`auths`, `credHelpers`, `credsStore`) and the README of
docker/docker-credential-helpers. Nothing is looked up before a registry asks for it.

From what a registry asks for to an `Authorization` (the distribution project's token authentication: `GET` with a
password or without, OAuth2's `POST` with an identity token).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
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

_MAX_FIELD = 8 * 1024
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=[\s,]|$)")
_PARAMETER = re.compile(rf"[\s,]*({_WORD})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|({_WORD}))")
_ESCAPE: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """`scheme` and the names of `parameters` are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(fields: Iterable[str]) -> tuple[Challenge, ...]:
    """Those in the given values of the field, in order. What is not one ends the reading of its value."""
    return tuple(found for field in fields for found in _in_one(field[:_MAX_FIELD]))


def _in_one(field: str) -> Iterable[Challenge]:
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


_HUB_KEY: Final = "https://index.docker.io/v1/"  # what `docker login` files Docker Hub under
_TOKEN_USER: Final = "<token>"  # noqa: S105 - the user name that says that the secret is an identity token
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_KEY = re.compile(r"(?:https?://)?([^/]+)(?:/(?:v[12]/?)?)?\Z")  # a registry; one with another path is not one
_HELPER_TIMEOUT_S = 30.0
_MAX_ANSWER_BYTES = 64 * 1024


class Credential(Unspoken):
    """A user name and password, or, with `is_identity_token`, a token that is exchanged for others."""

    __slots__ = ("is_identity_token", "secret", "username")

    def __init__(self, username: str, secret: SecretValue, *, is_identity_token: bool = False) -> None:
        self.username = username
        self.secret = secret
        self.is_identity_token = is_identity_token

    def basic(self) -> SecretValue:
        """`Basic …` (RFC 7617)."""
        pair = f"{self.username}:{self.secret.reveal()}".encode()
        return SecretValue(f"Basic {b64encode(pair).decode()}")


class Credentials(Protocol):
    """Where credentials come from."""

    def find(self, registry: str) -> Credential | None:
        """For `registry`, a host with its port, and for no other; None where there are none. Raises InputError."""
        ...


class Anonymous:
    """No credentials for anybody."""

    def find(self, registry: str) -> Credential | None:  # noqa: ARG002 - as Credentials says
        return None


class DockerCredentials:
    """Those of docker's configuration file, which need not exist: what `credHelpers` names for the registry, else
    `credsStore`, and where that has none, `auths`."""

    def __init__(self, config: Path) -> None:
        self._config = config

    def find(self, registry: str) -> Credential | None:
        """InputError where the file or what it names cannot be used; nothing of its content is in a message."""
        settings = self._read()
        key = _HUB_KEY if registry == DOCKER_HUB else registry
        helpers = _table(settings, "credHelpers")
        helper = helpers.get(key, helpers.get(registry, settings.get("credsStore")))
        found = self._ask(helper, key) if helper else None
        return found or self._filed(_table(settings, "auths"), registry, key)

    def _read(self) -> Mapping[str, Json]:
        try:
            return parse_object(self._config.read_bytes(), str(self._config))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InputError(f"cannot read {str(self._config)!r}: {error.strerror}") from None

    def _filed(self, auths: Mapping[str, Json], registry: str, key: str) -> Credential | None:
        names = [key, *(name for name in auths if (match := _KEY.match(name)) and match[1] == registry)]
        entry = next((auths[name] for name in names if isinstance(auths.get(name), dict)), None)
        if not entry:
            return None
        try:
            return _credential(entry)
        except (InputError, ValueError):
            raise InputError(f"{str(self._config)!r}: what it has for {registry} cannot be read") from None

    def _ask(self, helper: Json, key: str) -> Credential | None:
        """What `docker-credential-HELPER get` says. The protocol tells "there is none" from "it failed" by words
        alone, so that any failure is none: a registry that insists then says so."""
        if not isinstance(helper, str) or not _HELPER.match(helper):
            raise InputError(f"{str(self._config)!r}: it names a credential helper that cannot be one")
        children = environment.for_children()
        program = shutil.which(f"docker-credential-{helper}", path=children.get("PATH", ""))
        if program is None:
            raise InputError(
                f"docker-credential-{helper}, which {str(self._config)!r} names, is not installed",
                hint="install it, or take it out of credsStore and credHelpers",
            )
        try:
            done = subprocess.run(  # noqa: S603 - a program that the operator's own configuration names
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
        return _said(helper, done.stdout)


def _said(helper: str, output: bytes) -> Credential | None:
    wrong = InputError(f"docker-credential-{helper} did not answer as the protocol says")
    if len(output) > _MAX_ANSWER_BYTES:
        raise wrong
    try:
        answer = parse_object(output, "the answer")
        username, secret = answer.get("Username", ""), answer.get("Secret", "")
        if not isinstance(username, str) or not isinstance(secret, str):
            raise wrong
        return _made(username, secret, is_identity_token=username == _TOKEN_USER) if secret else None
    except InputError:
        raise wrong from None


def _credential(entry: Mapping[str, Json]) -> Credential | None:
    """Raises InputError or ValueError."""
    if token := entry.get("identitytoken"):
        return _made("", token, is_identity_token=True)
    if encoded := entry.get("auth"):
        username, _, password = b64decode(encoded, validate=True).decode().rstrip("\0").partition(":")
        return _made(username, password)
    return _made(entry.get("username", ""), entry["password"]) if entry.get("password") else None


def _made(username: Json, secret: Json, *, is_identity_token: bool = False) -> Credential:
    if not isinstance(username, str) or not isinstance(secret, str):
        raise InputError("a credential is not text")
    return Credential(username, SecretValue(secret), is_identity_token=is_identity_token)


def _table(settings: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    value = settings.get(name)
    return value if isinstance(value, dict) else {}


_CLIENT_ID: Final = "catalyst-host"
_MAX_TOKEN_BYTES = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")
_WHAT = "give a token"


def authorization(
    client: httpx2.Client, base: httpx2.URL, registry: str, challenges: Sequence[Challenge], credentials: Credentials
) -> SecretValue | None:
    """The value of `Authorization` that answers `challenges`, or None where there is nothing to answer with.

    `base` is a URL of the registry. Raises RegistryError, InputError (the credentials cannot be read) and PassingError.
    """
    for challenge in challenges:
        if challenge.scheme == "bearer":
            realm = _realm(challenge, base)
            return _token(client, realm, challenge, credentials.find(registry), registry)
    if any(challenge.scheme == "basic" for challenge in challenges):
        credential = credentials.find(registry)
        return credential.basic() if credential and not credential.is_identity_token else None
    return None


def _realm(challenge: Challenge, base: httpx2.URL) -> httpx2.URL:
    """Where tokens are had. Raises RegistryError unless it speaks TLS, or the registry does not either and the realm
    is at the same place or on this machine: a password leaves in plain text only where the registry's would too."""
    try:
        realm = httpx2.URL(challenge.parameters.get("realm", ""))
    except httpx2.InvalidURL:
        realm = httpx2.URL("")
    near = base.scheme == "http" and (realm.host == base.host or is_loopback(realm.host))
    if not realm.host or realm.userinfo or not (realm.scheme == "https" or (realm.scheme == "http" and near)):
        raise RegistryError(
            f"{base.host} wants credentials sent to {failures.words(str(realm)) or 'nowhere'}, which is not safe"
        )
    return realm


def _token(
    client: httpx2.Client, realm: httpx2.URL, challenge: Challenge, credential: Credential | None, registry: str
) -> SecretValue:
    asked = {name: challenge.parameters[name] for name in ("service", "scope") if name in challenge.parameters}
    if credential is not None and credential.is_identity_token:
        form = {
            "grant_type": "refresh_token",
            "client_id": _CLIENT_ID,
            "refresh_token": credential.secret.reveal(),
            **asked,
        }
        request = client.build_request("POST", realm, data=form)
    else:
        account = {"account": credential.username} if credential else {}
        request = client.build_request("GET", realm.copy_merge_params({**asked, "client_id": _CLIENT_ID, **account}))
        if credential:
            request.headers["Authorization"] = credential.basic().reveal()
    with failures.entering(realm.host, _WHAT):
        response = client.send(request, stream=True)
        try:
            if response.status_code != httpx2.codes.OK:
                failures.refuse(response, registry, _WHAT)
            body = failures.read_at_most(response, _MAX_TOKEN_BYTES)
        finally:
            response.close()
    return _token_answer(body, realm.host)


def _token_answer(body: bytes, host: str) -> SecretValue:
    try:
        answer = parse_object(body, "the answer", most=1_000)
    except InputError:
        answer = {}
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise RegistryError(f"{host} answered with no token that can be used")
    return SecretValue(f"Bearer {token}")
