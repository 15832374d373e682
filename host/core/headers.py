"""Names of request headers: which carry credentials, which only the host or a proxy sets, which choose the form of the
answer, which override the method; and the fields of queries and forms that override it too.

Servers that follow CGI (RFC 3875, 4.1.18) read `X_Api_Key` and `X-Api-Key` as one header, and some read every other
sign so. The sets below have names as `spelled` returns them: what is refused or left out is so in every spelling. The
one exception is CREDENTIALS: a secret goes into exactly those names, in either case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_plus

from host.errors import InputError

TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # the name of a field (RFC 9110, 5.6.2)
SPELLING: Final = str.maketrans("!#$%&'*+.^_`|~", "--------------")

HEADER: Final = "header:"  # before the name of a header, in the places of a secret: `header:X-Custom`

CREDENTIALS: Final = frozenset(
    {
        "authorization",  # RFC 9110, 11.6.2. Not Proxy-Authorization: it is for a proxy, and the host sets it for none
        *("api-key", "apikey", "x-api-key", "x-apikey"),  # Azure OpenAI, Anthropic, and most others
        *("api-token", "x-api-token", "api-secret", "x-api-secret"),
        *("x-auth-token", "x-auth-key", "x-access-token", "x-secret-key"),  # OpenStack, Cloudflare
        *("x-goog-api-key", "x-functions-key", "ocp-apim-subscription-key"),  # clouds
        *("private-token", "job-token", "deploy-token"),  # GitLab
        *("x-subscription-token", "xi-api-key", "x-vault-token", "x-shopify-access-token"),  # Brave, ElevenLabs, …
        *("x-rapidapi-key", "dd-api-key", "dd-application-key", "x-figma-token", "x-n8n-api-key"),
        *("cf-access-client-secret", "cf-aig-authorization", "helicone-auth", "x-portkey-api-key"),  # gateways
    }
)
"""Headers whose purpose is a credential: servers know that they are not to be shown. Cookie is none of them: it carries
much else, and its servers read, change and send it back."""

HOP_BY_HOP: Final = frozenset(  # RFC 9110, 7.6.1, and what older software treats so
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"}
)
_FRAMING: Final = frozenset({"host", "content-length", "accept-encoding", "expect"})
_ON_BEHALF: Final = frozenset(  # set by a proxy: who asks, by which host, for which URL
    {
        *("forwarded", "via", "proxy", "x-host", "x-http-host-override", "x-http-path-override", "x-proxyuser-ip"),
        *("client-ip", "x-client-ip", "x-real-ip", "x-remote-ip", "x-remote-addr", "remote-addr", "x-originating-ip"),
        *("x-cluster-client-ip", "true-client-ip", "fastly-client-ip", "cf-connecting-ip", "cf-connecting-ipv6"),
        *("cf-pseudo-ipv4", "x-azure-clientip", "x-azure-socketip", "x-remote-user", "remote-user", "x-client-cert"),
    }
)
NOT_THE_GUESTS: Final = HOP_BY_HOP | _FRAMING | _ON_BEHALF
NOT_THE_GUESTS_PREFIXES: Final = (
    *("proxy-", "x-forwarded", "x-original-", "x-rewrite-", "x-override-"),
    *("x-envoy-", "x-accel-", "x-sendfile-", "x-arr-", "x-ms-client-principal", "x-amzn-oidc-"),
)

ANSWER_FORMS: Final = frozenset(
    {
        *("range", "if-range", "request-range", "x-range", "x-ms-range"),  # RFC 9110, 14; Netscape's, Azure's
        *("accept-charset", "a-im", "te", "expect"),  # RFC 9110, 12.5.2; RFC 3229
    }
)
"""Headers that choose a slice, a charset or a coding of the answer. A server may always answer as if they were not
there."""

METHOD_OVERRIDES: Final = frozenset(
    {
        *("x-http-method-override", "x-http-method", "x-method-override"),  # Google, SharePoint, IBM
        *("http-method-override", "method-override"),
    }
)
_METHOD_FIELDS: Final = METHOD_OVERRIDES | {"-method", "-httpmethod", "-http-method", "method", "httpmethod"}
_METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"})

_SHOWN_AGAIN: Final = frozenset(  # servers log these, cut them, and send them back
    {
        *("accept", "accept-language", "cookie", "from", "origin", "referer", "user-agent", "idempotency-key"),
        *("request-id", "x-request-id", "x-client-request-id", "x-ms-client-request-id", "x-correlation-id"),
        *("correlation-id", "x-trace-id", "traceparent", "tracestate", "baggage", "x-amzn-trace-id", "b3"),
        *("x-cloud-trace-context", "x-requested-with", "x-session-id", "sentry-trace", "last-event-id"),
    }
)
_SHOWN_AGAIN_PREFIXES: Final = ("content-", "if-", "sec-", "x-b3-", "access-control-")


def spelled(name: str) -> str:
    """`name` as servers may read it: in lower case, with a dash for every sign that is no letter and no digit."""
    return name.lower().translate(SPELLING)


def secret_header(name: str, *, by_manifest: bool = False) -> str:
    """The lower-case name of a header that a secret may stand in. Raises InputError for no name, for a header that a
    guest may not set or that chooses the form of the answer, and, `by_manifest`, for one that servers show again: an
    operator alone may name that."""
    if not TOKEN.match(name):
        raise InputError(f"{name[:80]!r} is not the name of a header")
    plain = spelled(name)
    if plain in NOT_THE_GUESTS or plain.startswith(NOT_THE_GUESTS_PREFIXES):
        raise InputError(f"a guest cannot set the header {name[:80]}, and so no secret can stand in it")
    if plain in ANSWER_FORMS or plain in METHOD_OVERRIDES or plain == "accept":
        raise InputError(f"the header {name[:80]} chooses what is answered: no secret can stand in it")
    if by_manifest and (plain in _SHOWN_AGAIN or plain.startswith(_SHOWN_AGAIN_PREFIXES)):
        raise InputError(f"servers show the header {name[:80]} again: only an operator can name it for a secret")
    return name.lower()


def forwarded_header(name: str) -> str:
    """The lower-case name of a header that may go from a caller's request to the upstream. Raises InputError for no
    name, for a credential or a cookie, for what frames a message or speaks for a proxy, and for what chooses the form
    of the answer or overrides the method."""
    if not TOKEN.match(name):
        raise InputError(f"{name[:80]!r} is not the name of a header")
    plain = spelled(name)
    if plain in CREDENTIALS or plain in ("cookie", "cookie2", "set-cookie", "proxy-authorization"):
        raise InputError(f"the header {name[:80]} carries credentials: a caller's are not forwarded")
    if plain in NOT_THE_GUESTS or plain.startswith((*NOT_THE_GUESTS_PREFIXES, "x-catalyst", "access-control-", "sec-")):
        raise InputError(f"the header {name[:80]} is for this connection alone, and is not forwarded")
    if plain in ANSWER_FORMS or plain in METHOD_OVERRIDES or plain.startswith(("accept", "content-", "if-")):
        raise InputError(f"the header {name[:80]} chooses the request's form or its answer's, and is not forwarded")
    return name.lower()


_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def without_controls(filename: str) -> str:
    """The name of a file as it can stand in the head of a part of a form, which is UTF-8 (RFC 7578, 5.1): without
    control characters. Every other character of it is kept."""
    return _CONTROLS.sub("", filename)


_CHARSET = re.compile(r"""\s*;\s*charset\*?\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+)""", re.IGNORECASE)


def without_charset(accept: str) -> str:
    """The value of an Accept header without `charset` parameters (RFC 9110, 12.5.1). Empty if one is left that cannot
    be read."""
    cut = _CHARSET.sub("", accept)
    return "" if "charset" in cut.lower() else cut


def methods_in_fields(path_query: bytes, content_type: str, body: bytes) -> Iterator[str]:
    """The methods that a query or a form of a request would put in place of its own: `_method` and the like, as Rails,
    Symfony, Salesforce and others read them. Only names of HTTP methods count."""
    query = path_query.partition(b"?")[2]
    media_type = content_type.partition(";")[0].strip().lower()
    texts = [query, body] if media_type in ("", "application/x-www-form-urlencoded") else [query]
    for text in texts:
        for field in re.split(r"[&;]", text.decode("latin-1")) if text else ():
            name, separator, value = field.partition("=")
            if separator:
                yield from _method_in(unquote_plus(name), unquote_plus(value))
    if media_type == "multipart/form-data":
        for part in body.decode("latin-1").split("\r\n--"):
            head, _, value = part.partition("\r\n\r\n")
            for name in _PART_NAME.findall(head):
                yield from _method_in(name.strip('"'), value)


_PART_NAME = re.compile(r""";\s*name\s*=\s*("[^"]*"|[^\s;]+)""", re.IGNORECASE)
_LONGEST = 40  # of a field's name and value that count


def _method_in(name: str, value: str) -> Iterator[str]:
    method = value[:_LONGEST].strip().upper()
    if method in _METHODS and re.sub(r"[^0-9a-z]", "-", name[:_LONGEST].lower()) in _METHOD_FIELDS:
        yield method
