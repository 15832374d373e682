"""Webhooks: whether a request is one of OpenAI's, by its signature (Standard Webhooks, 1.0). Nothing is sent."""

import hmac
from base64 import b64decode, b64encode
from json import loads
from typing import Any

from catalyst.sdk import Misconfigured, secrets
from catalyst.sdk.errors import CatalystError, Invalid

SECRET = "OPENAI_WEBHOOK_SECRET"  # noqa: S105 - its name
TOLERANCE_S = 300

_HIDDEN = "host-secret-"  # how a placeholder begins
_PREFIX = "whsec_"


def verified(params: dict[str, Any]) -> dict[str, Any]:
    _check(params)
    return {"status": 200, "data": {"verified": True}}


def unwrapped(params: dict[str, Any]) -> dict[str, Any]:
    """The event in the request, if it is one of OpenAI's."""
    payload = _check(params)
    try:
        return {"status": 200, "data": loads(payload)}
    except ValueError:
        raise Invalid("payload", "payload is not JSON") from None


def _check(params: dict[str, Any]) -> str:
    """Returns the payload. Raises Invalid for a request that is malformed, unsigned, or signed too long ago, and
    Misconfigured where the secret cannot be read."""
    payload, headers = params.get("payload"), params.get("headers")
    now: Any = params.get("now")
    tolerance: Any = TOLERANCE_S if params.get("tolerance") is None else params["tolerance"]
    if not isinstance(payload, str):
        raise Invalid("payload", "payload must be a string: the body as it came")
    if not isinstance(headers, dict):
        raise Invalid("headers", "headers must be an object: the headers as they came")
    if not _is_number(now):
        raise Invalid("now", "now must be a number: the time in seconds since 1970, since a sandbox has no clock")
    if not _is_number(tolerance):
        raise Invalid("tolerance", "tolerance must be a number of seconds")
    told = {str(name).lower(): value for name, value in headers.items()}
    ident, sent, signatures = (_header(told, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    if not (sent.isascii() and sent.isdigit() and len(sent) < 16):
        raise Invalid("headers", "headers: webhook-timestamp is no time in seconds")
    if not abs(now - int(sent)) <= tolerance:  # which NaN is not
        raise _refused(f"the webhook was signed {'too long ago' if now > int(sent) else 'in the future'}")
    expected = b64encode(hmac.digest(_key(), f"{ident}.{sent}.{payload}".encode("utf-8", "surrogatepass"), "sha256"))
    given = [one.removeprefix("v1,").encode("utf-8", "replace") for one in signatures.split()]
    if not sum([hmac.compare_digest(expected, one) for one in given]):  # of all, in the same time
        raise _refused("no signature of the webhook is right")
    return payload


def _header(headers: dict[str, Any], name: str) -> str:
    if isinstance(value := headers.get(name), str) and value:
        return value
    raise Invalid("headers", f"headers: {name} is missing")


def _key() -> bytes:
    secret = secrets.get(SECRET)
    if secret.startswith(_HIDDEN):
        raise Misconfigured(SECRET, f"{SECRET} has to be granted with reveal = true: its value makes the signature")
    try:
        return b64decode(secret.removeprefix(_PREFIX), validate=True) if secret.startswith(_PREFIX) else secret.encode()
    except ValueError:
        raise Misconfigured(SECRET, f"{SECRET} is not base64 after {_PREFIX}") from None


def _refused(why: str) -> CatalystError:
    return CatalystError(400, {"type": "invalid_webhook_signature", "message": why, "param": "headers"})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
