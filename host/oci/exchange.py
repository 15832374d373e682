"""One request to a registry and its answer. Each function peels off one concern: tries, authorization, redirects."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, TypeVar

import httpx2

from host.egress import system_tls
from host.egress.deadline import TotalTimeout
from host.errors import RegistryError
from host.oci import failures
from host.oci.auth import Credentials, authorization, parse_challenges
from host.oci.failures import PassingError
from host.oci.reference import OciReference
from host.secrets.value import SecretValue

T = TypeVar("T")

PAUSES_S: Final = (0.5, 2.0)  # between tries: three in all
_MAX_REDIRECTS = 5
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)  # for each operation on the socket
_PATIENCE_S: Final = 120.0  # for a request and its answer, however many bytes now and then keep it going
_SLOWEST = 16 * 1024  # bytes in a second that we are to be able to send
_HEADERS: Final = {"User-Agent": "catalyst-host", "Accept-Encoding": "identity"}  # digests are of bytes as they are


@dataclass(frozen=True, slots=True)
class RegistryRequest:
    """A request. `what` completes "asked to …" in messages. `elsewhere` is whether a redirect is followed: for
    blobs, which registries keep in other places."""

    method: str
    url: httpx2.URL
    what: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class RegistryAnswer:
    """One that was read whole."""

    status: int
    headers: httpx2.Headers
    body: bytes = field(repr=False)
    url: httpx2.URL
    next_page: httpx2.URL | None = None  # what `Link` calls `next` (RFC 8288)


class RegistryExchange:
    """Speaks to the registry of `reference`; to be closed. Belongs to one thread.

    Nothing of the environment has an effect but OpenSSL's choice of trusted certificates; no cookies are kept.
    """

    def __init__(
        self,
        reference: OciReference,
        credentials: Credentials,
        *,
        plain_http: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base = httpx2.URL(reference.base(plain_http=plain_http))
        self.registry = reference.registry
        self._credentials = credentials
        self._pause = pause
        self._authorization: SecretValue | None = None
        self._patience = TotalTimeout()
        self._client = httpx2.Client(
            trust_env=False,
            verify=system_tls(),
            timeout=_TIMEOUT,
            headers=_HEADERS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            event_hooks={"request": [self._patience.watch]},
        )

    def close(self) -> None:
        self._client.close()

    def url(self, path: str, **params: str) -> httpx2.URL:
        """`path` below the repository's place in the registry's API."""
        return self.base.copy_with(path=f"{self.base.path}/{path}", params=params or None)

    def location(self, answer: httpx2.URL, headers: httpx2.Headers, what: str) -> httpx2.URL:
        """Where `Location` of an answer to a request for `answer` points. Raises RegistryError where it points
        nowhere, or from TLS to plain HTTP."""
        try:
            there = answer.join(headers.get("Location", ""))
        except httpx2.InvalidURL:
            there = httpx2.URL("")
        downgraded = self.base.scheme == "https" and there.scheme != "https"
        if "Location" not in headers or there.scheme not in ("http", "https") or not there.host or downgraded:
            why = "to plain HTTP" if downgraded and there.scheme == "http" else "nowhere"
            raise RegistryError(f"{self.registry} sends us {why}, asked to {what}")
        return there.copy_with(username=None, password=None) if there.userinfo else there

    def tried(self, act: Callable[[], T]) -> T:
        """What `act` returns, which may be done again. Raises RegistryError after the third PassingError."""
        for pause_s in PAUSES_S:
            try:
                return act()
            except PassingError:
                self._pause(pause_s)
        try:
            return act()
        except PassingError as error:
            raise error.lasting from None

    def fetch(
        self, ask: RegistryRequest, expected: Collection[int], most: int = failures.MAX_ERROR_BYTES
    ) -> RegistryAnswer:
        """The answer, read whole. Raises RegistryError for a status other than `expected` and for a body of more than
        `most` bytes; PassingError where asking again may help."""
        with self.begun(ask, expected) as response:
            body = self.read(response, most, ask.what)
            following = response.links.get("next", {}).get("url")
            next_page = response.url.join(following) if following else None
            return RegistryAnswer(response.status_code, response.headers, body, response.url, next_page)

    @contextmanager
    def begun(
        self, ask: RegistryRequest, expected: Collection[int], within_s: float | None = None
    ) -> Iterator[httpx2.Response]:
        """The answer, whose body is still to be read, with `iter_raw`: within two minutes, or `within_s`, beside the
        time that sending takes. Raises as `fetch` does, also for what reading it raises inside."""
        with self._within(within_s or _PATIENCE_S, ask), failures.entering(self.registry, ask.what):
            response = self._authorized(ask)
            try:
                if response.status_code not in expected:
                    failures.refuse(response, self.registry, ask.what)
                yield response
            finally:
                response.close()

    def read(self, response: httpx2.Response, most: int, what: str) -> bytes:
        """The body, cut short where it takes more than a minute. Raises RegistryError for more than `most` bytes."""
        body = failures.read_at_most(response, most + 1)
        if len(body) > most:
            raise RegistryError(f"{self.registry} sends more than {most} bytes, asked to {what}")
        return body

    @contextmanager
    def _within(self, seconds: float, ask: RegistryRequest) -> Iterator[None]:
        """Raises RegistryError where it takes longer, not counting what there is to send."""
        seconds += len(ask.content or b"") / _SLOWEST
        with self._patience.within(seconds) as over:
            try:
                yield
            except PassingError:
                if over.is_set():
                    said = f"{self.registry} takes more than {seconds:.0f} s, asked to {ask.what}"
                    raise RegistryError(said) from None
                raise

    def _authorized(self, ask: RegistryRequest) -> httpx2.Response:
        """Sends, and where the registry itself asks who we are, says so and sends once more."""
        response = self._followed(ask)
        if response.status_code != httpx2.codes.UNAUTHORIZED or not self.is_registry(response.url):
            return response
        challenges = parse_challenges(response.headers.get_list("WWW-Authenticate"))
        fresh = authorization(self._client, self.base, self.registry, challenges, self._credentials)
        if fresh is None or fresh == self._authorization:
            return response
        response.close()
        self._authorization = fresh
        return self._followed(ask)

    def _followed(self, ask: RegistryRequest) -> httpx2.Response:
        url = ask.url
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._sent(ask, url)
            if not (ask.elsewhere and response.has_redirect_location):
                return response
            response.close()
            url = self.location(url, response.headers, ask.what)
        raise RegistryError(f"{self.registry} redirects more than {_MAX_REDIRECTS} times, asked to {ask.what}")

    def _sent(self, ask: RegistryRequest, url: httpx2.URL) -> httpx2.Response:
        request = self._client.build_request(ask.method, url, headers=ask.headers, content=ask.content)
        if self._authorization is not None and self.is_registry(url):
            request.headers["Authorization"] = self._authorization.reveal()
        return self._client.send(request, stream=True, auth=None)

    def is_registry(self, url: httpx2.URL) -> bool:
        """Whether `url` has the registry's own origin: nobody else is told who we are."""
        return _origin(url) == _origin(self.base)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # a default port is None, however it was written
