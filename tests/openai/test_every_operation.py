"""Every operation by the client: what arrives upstream is what the official SDK sends for the same arguments."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from host import Catalyst
from host.openai import official
from tests.catalyst.openai.test_every_operation import (
    OPERATIONS,
    SDK,
    Sent,
    arguments_of,
    call,
    catalyst,  # noqa: F401 - fixtures
    methods,  # noqa: F401
    of_one,
    recorder,  # noqa: F401
    rows,  # noqa: F401
)

Methods = dict[str, Callable[..., Any]]
NO_ROUTE_OF_ITS_OWN = {"files.retrieve_content"}  # the deprecated form of files.content: another answer, at its route


@pytest.fixture(scope="module")
def ours(catalyst: Catalyst) -> Iterator[Methods]:  # noqa: F811 - the fixture
    with official.OpenAI(catalyst, max_retries=0) as client:
        yield dict(SDK.methods(client))


@pytest.fixture(scope="module")
def ours_async(catalyst: Catalyst) -> Iterator[Methods]:  # noqa: F811
    with asyncio.Runner() as runner:
        client = official.AsyncOpenAI(catalyst, max_retries=0)

        def finished(method: Callable[..., Any]) -> Callable[..., Any]:
            async def run(**given: Any) -> Any:
                found = method(**given)
                return await found if inspect.isawaitable(found) else found

            return lambda **given: runner.run(run(**given))

        yield {name: finished(method) for name, method in SDK.methods(client)}
        runner.run(client.close())


def differences(ours: Methods, methods: Methods, recorder: Any, row: dict[str, Any], given: Any) -> Iterator[str]:  # noqa: F811
    sent = []
    for one in (methods, ours):
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            call(one, row, given)
        sent.append(of_one(recorder))
    for field in Sent._fields:
        if (theirs := getattr(sent[0], field)) != (found := getattr(sent[1], field)):
            yield f"{row['name']}: {field}:\n  {theirs!r}\n  {found!r}"


def arguments(methods: Methods, recorder: Any, row: dict[str, Any], *, least: bool) -> dict[str, Any]:  # noqa: F811
    """The least that the SDK accepts: of several overloads, each requires more than what all of them do."""
    given = arguments_of(row, least=least, stream=False)
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            call(methods, row, given)
    except TypeError:
        given = arguments_of(row, least=False, stream=False)
    recorder.sent.clear()
    return given


@pytest.mark.parametrize("least", [True, False], ids=["what is required", "all parameters"])
def test_every_operation_arrives_as_the_official_sdk_sends_it(
    ours: Methods,
    methods: Methods,  # noqa: F811
    rows: dict[str, Any],  # noqa: F811
    recorder: Any,  # noqa: F811
    least: bool,
) -> None:
    found = []
    for _, _, name in OPERATIONS:
        if name not in NO_ROUTE_OF_ITS_OWN:
            given = arguments(methods, recorder, rows[name], least=least)
            found += differences(ours, methods, recorder, rows[name], given)
    assert len(OPERATIONS) == 396
    assert not found, "\n".join(found)


def test_an_operation_of_every_form_arrives_so_from_async_code(
    ours_async: Methods,
    methods: Methods,  # noqa: F811
    rows: dict[str, Any],  # noqa: F811
    recorder: Any,  # noqa: F811
) -> None:
    """It has the same requests, which another transport reads."""
    forms = {(row["method"], row["request"], row["response"], "stream" in row): row for row in rows.values()}
    assert len(forms) > 10
    found = [
        difference
        for row in forms.values()
        if row["name"] not in NO_ROUTE_OF_ITS_OWN
        for difference in differences(ours_async, methods, recorder, row, arguments_of(row, least=False, stream=False))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("kind", ["ours", "ours_async"])
def test_every_operation_that_streams_arrives_so(
    request: pytest.FixtureRequest,
    methods: Methods,  # noqa: F811
    rows: dict[str, Any],  # noqa: F811
    recorder: Any,  # noqa: F811
    kind: str,
) -> None:
    streaming = [row for row in rows.values() if "stream" in row]
    assert len(streaming) == 15
    client: Methods = request.getfixturevalue(kind)
    found = [
        difference
        for row in streaming
        for difference in differences(client, methods, recorder, row, arguments_of(row, least=False, stream=True))
    ]
    assert not found, "\n".join(found)
