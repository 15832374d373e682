"""Who the registry is told that we are: what `docker login` left behind.

Sources: docker's documentation of `config.json` (`auths`, `credHelpers`, `credsStore`) and the README of
docker/docker-credential-helpers. Nothing is looked up before a registry asks for it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from host import environment
from host.errors import InputError
from host.jsontext import Json, parse_object
from host.registry.oci.reference import DOCKER_HUB
from host.secret import SecretValue, Unspoken

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
