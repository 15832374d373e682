"""OpenAI's API over a catalyst: a client for Python programs, and what the gateway shares with it.

    from host.openai import OpenAI

    with OpenAI() as client:
        print(client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}]))

Where the official SDK is installed (the extra `openai`), OpenAI and AsyncOpenAI are its own clients with another road
out: official.py, its requests in transport.py, its connections in sockets.py, its errors in both.py. Without it they
have the same names: plain.py and plain_objects.py. A client's operations run at the catalyst of a ClientHome (home.py).

exchange.py   a request -> an operation's input; what a run begins with -> the head of an answer
messages.py   method and path -> operation; path, query and body -> parameters and attachments; a result, or events ->
              body, media type and headers
forms.py      a form -> its parts
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host.openai.official import AsyncOpenAI as AsyncOpenAI
    from host.openai.official import OpenAI as OpenAI

__all__ = ["AsyncOpenAI", "OpenAI"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Imports on first use: the SDK takes three times as long as all of the host."""
        if name not in __all__:
            raise AttributeError(f"module 'host.openai' has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - `import host.openai` imports nothing
        from importlib.util import find_spec  # noqa: PLC0415 - as above

        known, before = (
            ("host.openai.official", "") if find_spec("openai") is not None else ("host.openai.plain", "Plain")
        )
        home = import_module(known)
        globals().update({one: getattr(home, before + one) for one in __all__})
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
