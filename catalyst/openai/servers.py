"""Servers that speak OpenAI's API: the place of their paths, and the header that carries the key. All of it is the
operator's configuration:

    base_url      the API, up to and with its version
    server        "openai" (the default), or "azure" for the paths of Azure OpenAI
    auth          "bearer" (the default), "header:NAME" for the key itself in a header of that name, "none" without one;
                  Azure's default is header:api-key
    headers       more headers, name to text
    api_version   Azure's `api-version`: needed, unless base_url ends with /v1
    deployments   Azure's deployments, model to deployment; a model that is not named is its own
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from catalyst.sdk import Call, HostRefused, Invalid, Misconfigured, http, log, secrets
from catalyst.sdk.operation import Prepared

BASE_URL = "https://api.openai.com/v1"
SERVERS = ("openai", "azure")

_PER_DEPLOYMENT = frozenset(
    {
        *("/chat/completions", "/completions", "/embeddings", "/images/generations", "/images/edits"),
        *("/audio/speech", "/audio/transcriptions", "/audio/translations"),
    }
)
"""Azure's paths below a deployment; all others have none."""

_HEADER = "header:"
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")  # RFC 9110, 5.6.2, in lower case
_NOT_MORE = ("authorization", "api-key", "content-type", "content-length", "host", "user-agent")


class Server(NamedTuple):
    """A server, as it is configured. `auth` is bearer, none or header:NAME; `deployments` None: it has none."""

    base_url: str
    auth: str
    headers: dict[str, str]
    api_version: str = ""
    deployments: Mapping[str, Any] | None = None

    def credentials(self, secret: str) -> dict[str, str]:
        """The header with the key that the secret `secret` holds; none for a server without one. Raises
        HostRefused."""
        if self.auth == "none":
            return {}
        try:
            key = secrets.get(secret)
        except HostRefused:
            if self.base_url != BASE_URL:
                log.warning("a server that takes no key needs the setting auth: none")
            raise
        return {"Authorization": f"Bearer {key}"} if self.auth == "bearer" else {self.auth.removeprefix(_HEADER): key}

    def placed(self, request: Prepared, call: Call) -> Prepared:
        """`request`, at the path that it has here. Raises Invalid, Misconfigured."""
        target = request.target
        if self.deployments is not None and target.partition("?")[0] in _PER_DEPLOYMENT:
            target = http.path("/deployments/{model}", model=self._deployment(call.params)) + target
        if self.api_version:
            target += ("&" if "?" in target else "?") + "api-version=" + http.quote("api_version", self.api_version)
        return request._replace(target=target)

    def _deployment(self, params: Mapping[str, Any]) -> str:
        model = params.get("model")
        if model is None and isinstance(parts := params.get("multipart"), list):
            named = (part for part in parts if isinstance(part, dict) and part.get("name") == "model")
            model = next((part.get("value") for part in named), None)
        if not isinstance(model, str) or not model:
            raise Invalid("model", "model is required: at Azure it names the deployment")
        deployment = (self.deployments or {}).get(model, model)
        if not isinstance(deployment, str) or not deployment:
            raise Misconfigured("deployments", f"deployments: the deployment of {model[:80]} must be a text")
        return deployment


def server_of(settings: Mapping[str, Any]) -> Server:
    """Raises Misconfigured, which names the setting."""
    kind, base_url = _text(settings, "server") or "openai", base_url_of(settings)
    if kind not in SERVERS:
        raise Misconfigured("server", "server must be openai or azure; for any other, base_url is enough")
    auth, headers = _auth(_text(settings, "auth"), kind), _headers(settings.get("headers"))
    version, deployments = _text(settings, "api_version"), settings.get("deployments")
    if kind == "openai":
        for name in ("api_version", "deployments"):
            if settings.get(name):
                raise Misconfigured(name, f"{name} needs the setting server: azure")
        return Server(base_url, auth, headers)
    return _azure(settings, base_url, auth, headers, version, deployments)


def base_url_of(settings: Mapping[str, Any]) -> str:
    """Returns `base_url` without its last slash.

    Raises Misconfigured unless it is `http(s)://host[:port][/path]`: a query or a user in it would swallow the
    operation's path. The policy decides about the host.
    """
    url = settings.get("base_url") or BASE_URL
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or any(c in url for c in " ?#@\\"):
        raise Misconfigured("base_url", "base_url must be a URL without a user, a query, a fragment or blanks")
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https") or rest.startswith(("/", ":")) or not rest:
        raise Misconfigured("base_url", "base_url must begin with https:// and a host")
    return url.rstrip("/")


def _azure(
    settings: Mapping[str, Any], base_url: str, auth: str, headers: dict[str, str], version: str, deployments: Any
) -> Server:
    """Azure OpenAI: `…/openai/v1` has the paths of OpenAI, any other base URL those of its deployments."""
    if not settings.get("base_url"):
        raise Misconfigured("base_url", "server: azure needs base_url, like https://NAME.openai.azure.com")
    if "/deployments/" in base_url:
        raise Misconfigured("base_url", "base_url must end before /deployments: the setting deployments names them")
    if base_url.endswith("/v1"):
        if deployments:
            raise Misconfigured("deployments", "deployments have no place below /v1: there, model names the deployment")
        return Server(base_url, auth, headers, version)
    if not version:
        raise Misconfigured("api_version", "server: azure needs api_version, like 2024-10-21, or a base_url with /v1")
    if not isinstance(deployments or {}, dict):
        raise Misconfigured("deployments", "deployments must be an object, model to deployment")
    base_url = base_url if base_url.endswith("/openai") else f"{base_url}/openai"
    return Server(base_url, auth, headers, version, deployments or {})


def _auth(given: str, kind: str) -> str:
    auth = given or ("header:api-key" if kind == "azure" else "bearer")
    if auth in ("bearer", "none") or (auth.startswith(_HEADER) and _is_name(auth.removeprefix(_HEADER))):
        return auth
    raise Misconfigured("auth", "auth must be bearer, none or header:NAME")


def _headers(given: Any) -> dict[str, str]:
    if not isinstance(given or {}, dict):
        raise Misconfigured("headers", "headers must be an object, name to text")
    for name, value in (given or {}).items():
        if not _is_name(name) or not isinstance(value, str) or not value.isprintable() or not value.isascii():
            raise Misconfigured("headers", f"headers: {name[:80]!r} must be a header's name, with a printable text")
        if name.lower() in _NOT_MORE:
            raise Misconfigured("headers", f"headers: {name[:80]} is not for a setting; the key's header is auth")
    return dict(given or {})


def _is_name(text: str) -> bool:
    return bool(text) and _TOKEN.issuperset(text.lower())


def _text(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or not value:
        raise Misconfigured(name, f"{name} must be a text")
    return value
