"""The clients where the official SDK is not installed: the same names, from the catalyst's own declaration, and plain
objects for answers. Errors are the host's alone: an error status is OperationFailed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

from host.component.operations import OperationSpec
from host.core.operation import Attachment, Mention, Result
from host.core.strict_json import Json
from host.errors import InputError
from host.openai.exchange import CALLER, HttpOperations, lower
from host.openai.home import ClientHome, ClientSource, refuse
from host.openai.plain_objects import Plain, PlainBytes, PlainListing, plain, unplain
from host.openai.plain_streams import PlainAsyncConnection, PlainAsyncStream, PlainConnection, PlainStream

if TYPE_CHECKING:
    from host.policy.document import Policy
    from host.runtime.connections import AsyncEventConnection, EventConnection
    from host.runtime.deployment import Secret
    from host.runtime.events import AsyncEventStream, EventStream
    from host.secrets.value import SecretValue

_HERE: Final = ("extra_headers", "extra_query", "extra_body", "timeout")
_HERE_OF_CONNECTIONS: Final = ("extra_headers", "extra_query")


class _Client:
    """`catalyst`, `policy`, `secrets` and `config` as of the client with the SDK, and so are the other arguments, but
    for retries, which are the policy's here. Raises InputError, and what `Host.load` does."""

    def __init__(
        self,
        catalyst: ClientSource = None,
        *,
        policy: Policy | None = None,
        secrets: Mapping[str, str | SecretValue | Secret] | None = None,
        config: Mapping[str, Json] | None = None,
        organization: str | None = None,
        project: str | None = None,
        timeout: float | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, object] | None = None,
        **refused: Any,
    ) -> None:
        if refused.pop("max_retries", 0):
            raise InputError("max_retries needs the official SDK", field="max_retries", hint="the policy has retries")
        refuse(refused, f"{type(self).__name__}()")
        self._home = ClientHome.found(catalyst, policy, secrets, config)
        self._operations = HttpOperations(self._home.catalyst)
        named = {"openai-organization": organization, "openai-project": project}
        self._headers = {**{name: one for name, one in named.items() if one}, **lower(default_headers)}
        self._query, self._timeout = dict(default_query or {}), _patience(timeout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._home.catalyst!r}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Resource(self, "")._within(name)  # noqa: SLF001 - of this file

    def with_options(self, *, timeout: float | None = None, default_headers: Mapping[str, str] | None = None) -> Self:
        """Another client of the same catalyst, to be closed by this one."""
        other = type(self).__new__(type(self))
        headers = {**self._headers, **lower(default_headers)}
        changed = {"_headers": headers, "_timeout": self._timeout if timeout is None else _patience(timeout)}
        vars(other).update(vars(self), _home=ClientHome(self._home.catalyst, ExitStack()), **changed)
        return other

    copy = with_options

    def _called(self, spec: OperationSpec, args: tuple[Any, ...], given: dict[str, Any]) -> _Call:
        """Raises TypeError for arguments that the operation has not, InputError."""
        last = spec.name.rpartition(".")[2]
        if args and spec.in_path:
            given, args = {spec.in_path[-1]: args[0], **given}, args[1:]
        if args:
            raise TypeError(f"{last}() takes {1 if spec.in_path else 0} positional arguments")
        again = dict(given)
        taken = _HERE_OF_CONNECTIONS if spec.websocket else _HERE
        here = {name: given.pop(name, None) if name in taken else None for name in _HERE}
        known = spec.parameters
        params: dict[str, Json] = {}
        attachments: dict[str, Attachment] = {}
        for name, value in given.items():
            sent = _api_name(name)
            if known is not None and sent not in known and sent != "stream":
                raise TypeError(f"{last}() got an unexpected keyword argument {name!r}")
            params[sent] = _with_files(value, attachments)
        params |= unplain(here["extra_body"] or {})
        more = {**self._query, **(here["extra_query"] or {})}
        listed = "" if spec.websocket else "[]"
        query = urlencode([pair for name, value in more.items() for pair in _in_query(name, value, listed)])
        headers = {**self._headers, **lower(here["extra_headers"])}
        asked = self._operations.input(spec, params, {}, query, headers, stream=params.get("stream") is True)
        timeout = self._timeout if here["timeout"] is None else _patience(here["timeout"])
        return _Call(
            self._home, spec, asked, attachments, timeout, lambda **more: self._called(spec, (), {**again, **more})
        )


class _Call:
    """One operation with its arguments. `again` has it with others."""

    def __init__(
        self,
        home: ClientHome,
        spec: OperationSpec,
        asked: dict[str, Json],
        attachments: Mapping[str, Attachment],
        timeout: float | None,
        again: Callable[..., _Call],
    ) -> None:
        self.spec, self.again, self._catalyst, self._asked = spec, again, home.catalyst, asked
        self.streams = asked["stream"] or spec.always_streams
        self.patience_s = timeout  # for an answer, or for each event of a stream
        self._known: dict[str, Any] = {"attachments": attachments, "caller": {**CALLER, "operation": spec.name}}

    def run(self) -> Result:
        return self._catalyst.run(self._asked, timeout=self.patience_s, **self._known)

    async def arun(self) -> Result:
        return await self._catalyst.arun(self._asked, timeout=self.patience_s, **self._known)

    def stream(self) -> EventStream:
        return self._catalyst.stream(self._asked, asks=self.spec.always_streams, **self._known)

    def astream(self) -> AsyncEventStream:
        return self._catalyst.astream(self._asked, asks=self.spec.always_streams, **self._known)

    def connect(self) -> EventConnection:
        return self._catalyst.connect(self._asked, caller=CALLER)

    async def aconnect(self) -> AsyncEventConnection:
        return await self._catalyst.aconnect(self._asked, caller=CALLER)

    def read(self, result: Result) -> Any:
        """The answer as an object. Raises OperationFailed."""
        result.raise_for_status()
        if self.spec.response == "binary":
            return PlainBytes(result.content)
        if self.spec.response == "empty":
            return None
        return plain(result.data)


class _Resource:
    """The operations whose names begin with `name`."""

    def __init__(self, client: _Client, name: str) -> None:
        self._client, self._name = client, name

    def __repr__(self) -> str:
        return f"<the operations {self._name}.* of {self._client!r}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._within(name)

    def _within(self, name: str) -> Any:
        full, catalyst = f"{self._name}.{name}".removeprefix("."), self._client._home.catalyst  # noqa: SLF001 - of this file
        if any(
            one.startswith(f"{full}.") for spec in catalyst.operations.values() for one in (spec.name, *spec.aliases)
        ):
            return _Resource(self._client, full)
        if (spec := catalyst.operation(full)) is None:
            raise AttributeError(f"{catalyst.reference} has no operation {full}")
        return lambda *args, **given: self._client._asked(self._client._called(spec, args, given))  # noqa: SLF001 - as above


class PlainOpenAI(_Client):
    """The API by its names. Close it, or use it in a `with`."""

    def _asked(self, call: _Call) -> Any:
        if call.spec.websocket:
            return PlainConnecting(call)
        if call.streams:
            return PlainStream(call.stream(), call.patience_s)
        found = call.read(call.run())
        return PlainPage(found, call) if isinstance(found, PlainListing) else found

    def close(self) -> None:
        """Close what was opened for this client. Any number of times."""
        self._home.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PlainAsyncOpenAI(_Client):
    """`PlainOpenAI` for asyncio: a run is cancelled with its task."""

    def _asked(self, call: _Call) -> Any:
        return PlainConnecting(call) if call.spec.websocket else PlainAwaited(call)

    async def close(self) -> None:
        """As `PlainOpenAI.close`."""
        self._home.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._home.close()


class PlainAwaited:
    """A call of a PlainAsyncOpenAI: to be awaited; a list may be iterated at once."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answered().__await__()

    async def _answered(self) -> Any:
        if self._call.streams:
            return PlainAsyncStream(self._call.astream(), self._call.patience_s)
        found = self._call.read(await self._call.arun())
        return PlainAsyncPage(found, self._call) if isinstance(found, PlainListing) else found

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for one in await self:
            yield one


class PlainConnecting:
    """A connection to be opened: by `with`, `async with` or `enter`."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._open: Any = None

    def __enter__(self) -> PlainConnection:
        self._open = opened = PlainConnection(self._call.connect())
        return opened

    enter = __enter__

    def __exit__(self, *_: object) -> None:
        self._open.close()

    async def __aenter__(self) -> PlainAsyncConnection:
        self._open = opened = PlainAsyncConnection(await self._call.aconnect())
        return opened

    async def __aexit__(self, *_: object) -> None:
        await self._open.close()


class _Pages(Plain):
    """One page of a list: `data`, and the next one where there is one."""

    def __init__(self, found: Plain, call: _Call) -> None:
        super().__init__(found.to_dict())
        vars(self)["_call"] = call

    def _next(self) -> dict[str, Json]:
        """The arguments of the next page; none where this is the last one."""
        document, call = self.to_dict(), vars(self)["_call"]
        items, takes = document.get("data") or [], call.spec.parameters or ()
        if not items or document.get("has_more") is False or "after" not in takes:
            more = document.get("next") if "page" in takes and document.get("has_more") is not False else None
            return {"page": more} if isinstance(more, str) else {}
        last = items[-1].get("id") if isinstance(items[-1], dict) else None
        cursor = document.get("last_id") or last
        return {"after": cursor} if cursor else {}

    def has_next_page(self) -> bool:
        return bool(self._next())

    def _following(self) -> _Call:
        if not (more := self._next()):
            raise InputError("there is no next page", hint="has_next_page says whether there is one")
        following: _Call = vars(self)["_call"].again(**more)
        return following


class PlainPage(_Pages):
    def get_next_page(self) -> PlainPage:
        """Raises InputError where this is the last page."""
        call = self._following()
        return PlainPage(call.read(call.run()), call)

    def iter_pages(self) -> Iterator[PlainPage]:
        page = self
        yield page
        while page.has_next_page():
            page = page.get_next_page()
            yield page

    def __iter__(self) -> Iterator[Any]:
        for page in self.iter_pages():
            yield from page.data


class PlainAsyncPage(_Pages):
    async def get_next_page(self) -> PlainAsyncPage:
        """As `PlainPage.get_next_page`."""
        call = self._following()
        return PlainAsyncPage(call.read(await call.arun()), call)

    async def iter_pages(self) -> AsyncIterator[PlainAsyncPage]:
        page = self
        yield page
        while page.has_next_page():
            page = await page.get_next_page()
            yield page

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for page in self.iter_pages():
            for one in page.data:
                yield one


def _patience(timeout: float | None) -> float | None:
    """Raises InputError for what is no number of seconds."""
    if timeout is not None and (not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0):
        raise InputError("timeout is a number of seconds above zero", field="timeout")
    return timeout


def _in_query(name: str, value: object, listed: str) -> Iterator[tuple[str, object]]:
    """The names and values of `value` in a query, as the SDK writes them; `listed` follows the name of each of a
    list."""
    match value:
        case None:
            return
        case dict():
            for inner, one in value.items():
                yield from _in_query(f"{name}[{inner}]", one, listed)
        case list() | tuple():
            for one in value:
                yield from _in_query(name + listed, one, listed)
        case bool():
            yield name, "true" if value else "false"
        case _:
            yield name, value


def _api_name(name: str) -> str:
    """`async` for `async_`: as the SDK writes words that Python has."""
    return name[:-1] if name.endswith("_") and iskeyword(name[:-1]) else name


def _with_files(value: Any, attachments: dict[str, Attachment]) -> Json:
    """`value` with a mention in place of each file: bytes, a path, an open file, or a tuple of a name, its content and
    its type; and with the API's names where Python has other ones."""
    match value:
        case Plain():
            return value.to_dict()
        case dict():
            return {_api_name(name): _with_files(one, attachments) for name, one in value.items()}
        case list():
            return [_with_files(one, attachments) for one in value]
        case (str() | None, content, *more) if isinstance(value, tuple) and _is_file(content):
            if len(more) > 1 and more[1]:
                raise InputError("a file has no headers of its own here", field="headers", hint="its name and its type")
            kind = more[0] if more and isinstance(more[0], str) else ""
            file = Attachment(_content(content), value[0] or "", kind)
        case bytes():
            file = Attachment(value, "upload")
        case os.PathLike():
            file = Attachment.read(Path(value))
        case _ if hasattr(value, "read"):
            file = Attachment(_content(value), Path(str(getattr(value, "name", "upload"))).name)
        case tuple():
            return [_with_files(one, attachments) for one in value]
        case _:
            return value
    ident = f"file{len(attachments)}"
    attachments[ident] = file
    return Mention(ident)


def _is_file(given: object) -> bool:
    return isinstance(given, bytes | os.PathLike) or hasattr(given, "read")


def _content(given: Any) -> bytes:
    found = (
        given.read()
        if hasattr(given, "read")
        else Path(given).read_bytes()
        if isinstance(given, os.PathLike)
        else given
    )
    return found.encode() if isinstance(found, str) else bytes(found)
