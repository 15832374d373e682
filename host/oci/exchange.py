"""One request to a registry and its answer. Each function adds one concern: retries, deadline, authorization,
redirects."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, TypeVar

import httpx2

from host.core.waiting import left
from host.egress.total_timeout import TotalTimeout
from host.errors import RegistryError
from host.oci import failures
from host.oci.auth import CredentialSource, authorization, parse_challenges
from host.oci.failures import TransientError
from host.oci.network import RegistryTransport
from host.oci.reference import OciReference
from host.secrets.value import SecretValue

T = TypeVar("T")

_PAUSES_S: Final = (0.5, 2.0)  # between tries: three tries in all
_MAX_REDIRECTS = 5
_KEEP_THE_METHOD: Final = (307, 308)
_SOCKET_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)  # for each operation on the socket
_TOTAL_TIMEOUT_S: Final = 120.0  # for a request and its answer, however slowly the bytes drip
_SLOWEST_UPLOAD = 16 * 1024  # bytes per second: sending extends the total timeout at this rate
_HEADERS: Final = {"User-Agent": "catalyst-host", "Accept-Encoding": "identity"}  # digests are of the bytes as sent


@dataclass(frozen=True, slots=True)
class RegistryRequest:
    """A request to a registry.

    `what` completes "asked to …" in messages. Only requests for blobs set `follows_redirects`: registries keep blobs
    at other origins. Others follow a redirect within the registry's own origin that keeps the method (307, 308).
    """

    method: str
    url: httpx2.URL
    what: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)
    follows_redirects: bool = False


@dataclass(frozen=True, slots=True)
class RegistryAnswer:
    """An answer with its whole body."""

    status: int
    headers: httpx2.Headers
    body: bytes = field(repr=False)
    url: httpx2.URL
    next_page: httpx2.URL | None = None  # the `next` link of the `Link` header (RFC 8288)


class RegistryExchange:
    """Sends requests to the registry of `reference`. The caller closes it. Belongs to one thread.

    Of the environment, only OpenSSL's choice of trusted certificates has an effect. Cookies are not stored.
    """

    def __init__(
        self,
        reference: OciReference,
        credentials: CredentialSource,
        *,
        plain_http: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base = httpx2.URL(reference.base(plain_http=plain_http))
        self.registry = reference.registry
        self._credentials = credentials
        self._pause = pause
        self._authorization: SecretValue | None = None
        self._total_timeout = TotalTimeout()
        self._client = httpx2.Client(
            trust_env=False,
            transport=RegistryTransport(self.base),
            timeout=_SOCKET_TIMEOUT,
            headers=_HEADERS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            event_hooks={"request": [self._total_timeout.watch]},
        )

    def close(self) -> None:
        self._client.close()

    def url(self, path: str, **params: str) -> httpx2.URL:
        """The URL of `path` below the repository in the registry's API."""
        return self.base.copy_with(path=f"{self.base.path}/{path}", params=params or None)

    def location(self, answered: httpx2.URL, headers: httpx2.Headers, what: str) -> httpx2.URL:
        """The target of the `Location` header of an answer from the URL `answered`.

        Raises RegistryError if there is none that can be used, and for plain HTTP if the registry speaks TLS.
        """
        try:
            target = answered.join(headers.get("Location", ""))
        except httpx2.InvalidURL:
            target = httpx2.URL("")
        downgraded = self.base.scheme == "https" and target.scheme != "https"
        if "Location" not in headers or target.scheme not in ("http", "https") or not target.host or downgraded:
            where = "to plain HTTP" if downgraded and target.scheme == "http" else "nowhere"
            raise RegistryError(f"{self.registry} sends us {where}, asked to {what}")
        return target.copy_with(username=None, password=None) if target.userinfo else target

    def is_registry(self, url: httpx2.URL) -> bool:
        """Whether `url` has the registry's own origin. Other origins get no credentials."""
        return _origin(url) == _origin(self.base)

    def retry(self, act: Callable[[], T]) -> T:
        """Returns the result of `act`, which can be repeated. Raises RegistryError after the third TransientError."""
        for pause_s in _PAUSES_S:
            try:
                return act()
            except TransientError as error:
                if left(_TOTAL_TIMEOUT_S) <= pause_s:
                    raise error.final from None
                self._pause(pause_s)
        try:
            return act()
        except TransientError as error:
            raise error.final from None

    def fetch(
        self, request: RegistryRequest, expected: Collection[int], most: int = failures.MAX_ERROR_BYTES
    ) -> RegistryAnswer:
        """Sends `request` and reads the whole answer.

        Raises RegistryError for a status that is not `expected` and for a body of more than `most` bytes, and
        TransientError if a retry may help.
        """
        with self.open(request, expected) as response:
            body = failures.read_at_most(response, most + 1)
            if len(body) > most:
                raise RegistryError(f"{self.registry} sends more than {most} bytes, asked to {request.what}")
            link = response.links.get("next", {}).get("url")
            next_page = response.url.join(link) if link else None
            return RegistryAnswer(response.status_code, response.headers, body, response.url, next_page)

    @contextmanager
    def open(
        self, request: RegistryRequest, expected: Collection[int], timeout_s: float | None = None
    ) -> Iterator[httpx2.Response]:
        """Sends `request` and gives the answer before its body. The block reads the body with `iter_raw`.

        All of it takes at most `timeout_s` (two minutes) plus the time for sending. Raises as `fetch` does, also for
        httpx2's errors inside the block.
        """
        with (
            self._deadline(left(timeout_s or _TOTAL_TIMEOUT_S), request),
            failures.translating(self.registry, request.what),
        ):
            response = self._send_authorized(request)
            try:
                if response.status_code not in expected:
                    failures.raise_for_status(response, self.registry, request.what)
                yield response
            finally:
                response.close()

    @contextmanager
    def _deadline(self, seconds: float, request: RegistryRequest) -> Iterator[None]:
        """Raises RegistryError if the block takes longer than `seconds` plus the time for sending."""
        seconds += len(request.content or b"") / _SLOWEST_UPLOAD
        with self._total_timeout.within(seconds) as over:
            try:
                yield
            except TransientError:
                if over.is_set():
                    message = f"{self.registry} takes more than {seconds:.0f} s, asked to {request.what}"
                    raise RegistryError(message) from None
                raise

    def _send_authorized(self, request: RegistryRequest) -> httpx2.Response:
        """Sends `request`, and sends it again with credentials if the registry itself asks for them."""
        response = self._send_following_redirects(request)
        if response.status_code != httpx2.codes.UNAUTHORIZED or not self.is_registry(response.url):
            return response
        challenges = parse_challenges(response.headers.get_list("WWW-Authenticate"))
        fresh = authorization(self._client, self.base, self.registry, challenges, self._credentials)
        if fresh is None or fresh == self._authorization:
            return response
        response.close()
        self._authorization = fresh
        return self._send_following_redirects(request)

    def _send_following_redirects(self, request: RegistryRequest) -> httpx2.Response:
        url = request.url
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send_once(request, url)
            if not response.has_redirect_location:
                return response
            if not request.follows_redirects and response.status_code not in _KEEP_THE_METHOD:
                return response
            target = self.location(url, response.headers, request.what)
            if not request.follows_redirects and not self.is_registry(target):
                return response
            response.close()
            url = target
        raise RegistryError(f"{self.registry} redirects more than {_MAX_REDIRECTS} times, asked to {request.what}")

    def _send_once(self, request: RegistryRequest, url: httpx2.URL) -> httpx2.Response:
        message = self._client.build_request(request.method, url, headers=request.headers, content=request.content)
        if self._authorization is not None and self.is_registry(url):
            message.headers["Authorization"] = self._authorization.reveal()
        return self._client.send(message, stream=True, auth=None)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # httpx2 reports a default port as None
