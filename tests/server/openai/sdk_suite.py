"""A plugin of pytest for the official SDK's own tests of its resources, in place of their `conftest.py`, which needs
packages that nothing else here does: clients of the server at TEST_API_BASE_URL, and a loop for coroutines.

What some tests answer by a mock, because their server has no bytes, is asked of the server too.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import openai
import pytest

_LOOP = asyncio.new_event_loop()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="all tests: each also with a laxer client and an async one")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "respx2(base_url): where the mock would be")


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str) -> list[pytest.Item] | None:
    """A request of each method in every form that it has. The others differ in what the SDK does with its answer."""
    left_out = name.startswith(("TestAsync", "test_path", "test_raw", "test_streaming"))
    return [] if left_out and not collector.config.getoption("--whole") else None


@pytest.fixture
def respx2_mock() -> MagicMock:
    return MagicMock()


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(**_options(strict=request.param)) as one:
        yield one


@pytest.fixture(scope="session")
def async_client(request: pytest.FixtureRequest) -> Iterator[openai.AsyncOpenAI]:
    if not isinstance(request.param, bool):
        pytest.skip("another HTTP client")
    one = openai.AsyncOpenAI(**_options(strict=request.param))
    yield one
    _LOOP.run_until_complete(one.close())


def _options(*, strict: bool) -> Any:
    keys = dict.fromkeys(("api_key", "admin_api_key"), os.environ["OPENAI_API_KEY"])
    base_url = os.environ["TEST_API_BASE_URL"]
    return {"base_url": base_url, "max_retries": 0, "_strict_response_validation": strict, **keys}


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    _LOOP.run_until_complete(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True
