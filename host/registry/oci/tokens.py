"""From what a registry asks for to an `Authorization` (the distribution project's token authentication: `GET` with a
password or without, OAuth2's `POST` with an identity token)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import httpx2

from host.errors import InputError, RegistryError
from host.jsontext import parse_object
from host.registry.oci import failures
from host.registry.oci.challenges import Challenge
from host.registry.oci.credentials import Credential, Credentials
from host.registry.oci.reference import is_loopback
from host.secret import SecretValue

_CLIENT_ID: Final = "catalyst-host"
_MAX_ANSWER_BYTES = 64 * 1024
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
            body = failures.read_at_most(response, _MAX_ANSWER_BYTES)
        finally:
            response.close()
    return _said(body, realm.host)


def _said(body: bytes, host: str) -> SecretValue:
    try:
        answer = parse_object(body, "the answer", most=1_000)
    except InputError:
        answer = {}
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise RegistryError(f"{host} answered with no token that can be used")
    return SecretValue(f"Bearer {token}")
