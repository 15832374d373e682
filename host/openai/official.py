"""The official SDK's clients over a catalyst: its resources, models, pages, streams, retries and errors, with a road
out that leads through the sandbox. They open no connection of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import httpx2
import openai

from host.core.operation import Result
from host.errors import HostError, InputError
from host.openai import both
from host.openai.exchange import HIDDEN
from host.openai.home import ClientHome, ClientSource, refuse
from host.openai.sockets import ClientConnections
from host.openai.transport import BASE, AsyncTransport, Calls, Transport
from host.runtime.catalyst import Catalyst

if TYPE_CHECKING:
    from host.core.strict_json import Json
    from host.policy.document import Policy
    from host.runtime.deployment import Secret
    from host.secrets.value import SecretValue


class _Shared:
    """Both clients, but for their road out: where they run, what they take, and what they refuse."""

    if TYPE_CHECKING:
        _client: Any
        organization: str | None
        project: str | None
        webhook_secret: str | None
        _custom_headers: Mapping[str, str]

    def __init__(
        self,
        catalyst: ClientSource = None,
        *,
        policy: Policy | None = None,
        secrets: Mapping[str, str | SecretValue | Secret] | None = None,
        config: Mapping[str, Json] | None = None,
        organization: str | None = None,
        project: str | None = None,
        webhook_secret: str | None = None,
        timeout: float | httpx2.Timeout | None = None,
        max_retries: int = openai.DEFAULT_MAX_RETRIES,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, object] | None = None,
        _copied: bool = False,
        **refused: Any,
    ) -> None:
        home = None if _copied else _home(catalyst, policy, secrets, config, refused, type(self))
        try:
            super().__init__(
                **_SETTINGS,  # type: ignore[call-arg]  # of the SDK's client
                timeout=timeout,
                max_retries=max_retries,
                default_headers=default_headers,
                default_query=default_query,
                http_client=refused["http_client"] if home is None else self._http_client(home),
            )
        except BaseException:
            if home is not None:
                home.close()
            raise
        # What was given, and nothing from the environment, of which the SDK reads some.
        self.organization, self.project, self.webhook_secret = organization, project, webhook_secret
        self._custom_headers = default_headers or {}
        self._sockets = ClientConnections(self, self.catalyst, self._calls.operations)

    def _http_client(self, home: ClientHome) -> httpx2.Client | httpx2.AsyncClient:
        """A client whose requests run at `home`, which it closes with itself."""
        raise NotImplementedError

    @property
    def catalyst(self) -> Catalyst:
        """The catalyst that runs the operations."""
        found: Catalyst = self._calls.home.catalyst
        return found

    @property
    def _calls(self) -> Calls:
        found: Calls = self._client._transport  # noqa: SLF001 - ours, see `_http_client`
        return found

    def _make_status_error(self, err_msg: str, *, body: object, response: httpx2.Response) -> openai.APIStatusError:
        error: openai.APIStatusError = super()._make_status_error(err_msg, body=body, response=response)  # type: ignore[misc]  # of the SDK's client
        result = response.extensions.get("result")
        return both.of_status(error, result) if isinstance(result, Result) else error

    def _refresh_api_key(self) -> NoReturn:
        """The SDK's first step on its own road to a connection: there is none."""
        raise both.of_host(
            InputError("connections are opened by the host", hint="client.realtime.connect(…) and its like")
        )

    if not TYPE_CHECKING:  # a type checker sees the SDK's own

        def copy(self, **changes: Any) -> Self:
            """Another client of the same catalyst. Raises what the constructor does, for what is given."""
            _refuse(changes, type(self))
            return super().copy(**changes, _extra_kwargs={"_copied": True})

        with_options = copy

        def _prepare_options(self, options: Any) -> Any:
            if options.url.startswith(("ws:", "wss:")):
                self._refresh_api_key()
            return super()._prepare_options(options)  # to be awaited, of the client for asyncio

        @property
        def realtime(self) -> Any:
            return self._sockets.resource("realtime", lambda: super(_Shared, self).realtime)

        @property
        def responses(self) -> Any:
            return self._sockets.resource("responses", lambda: super(_Shared, self).responses)

        @property
        def live(self) -> Any:
            return self._sockets.resource("live", lambda: super(_Shared, self).live)

        @property
        def beta(self) -> Any:
            return self._sockets.resource("beta", lambda: super(_Shared, self).beta)


_ARGUMENTS: Final = """
    `catalyst` is a loaded Catalyst; a Host, or the reference of an installed catalyst. Without one it is the installed
    `c:local.openai`, in a Host that this process's clients share. With a `policy`, and `secrets` and `config`, it is
    the catalyst that comes with the host, with that authority (see `Host.load`).

    `timeout` bounds each run, and of a stream the wait for each event; None: the policy alone does. After an error
    status a request runs anew, up to `max_retries` times, as with the SDK; an error of the host is raised at once.
    `default_headers` are those that the catalyst sends on. Nothing is taken from the environment. Arguments of the SDK
    that cannot work here, such as `api_key`, raise InputError, which says what does. Raises what `Host.load` does."""


class OpenAI(_Shared, openai.OpenAI):
    __doc__ = f"""The official client, whose requests run in a sandbox each. Close it, or use it in a `with`.
    {_ARGUMENTS}"""

    def _http_client(self, home: ClientHome) -> httpx2.Client:
        return httpx2.Client(transport=Transport(home), trust_env=False)


class AsyncOpenAI(_Shared, openai.AsyncOpenAI):
    __doc__ = f"""`OpenAI` for asyncio: a run is cancelled with its task.
    {_ARGUMENTS}"""

    def _http_client(self, home: ClientHome) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=AsyncTransport(home), trust_env=False)


_SETTINGS: Final[dict[str, Any]] = {"api_key": HIDDEN, "admin_api_key": HIDDEN, "base_url": BASE}


def _home(
    catalyst: ClientSource, policy: Any, secrets: Any, config: Any, refused: Mapping[str, Any], of: type[object]
) -> ClientHome:
    _refuse(refused, of)
    try:
        return ClientHome.found(catalyst, policy, secrets, config)
    except HostError as error:
        raise both.of_host(error) from error.__cause__


def _refuse(given: Mapping[str, Any], of: type[object]) -> None:
    try:
        refuse({name: value for name, value in given.items() if name not in _COPIED}, f"{of.__name__}()")
    except HostError as error:
        raise both.of_host(error) from None


_COPIED: Final = frozenset(  # that a copy may change
    {
        *("organization", "project", "webhook_secret", "timeout", "max_retries"),
        *("default_headers", "set_default_headers", "default_query", "set_default_query"),
    }
)
