"""Every operation through the gateway: the official SDK's request arrives at the upstream as it would without us."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from host.runtime.workspace import Workspace
from tests.catalyst.openai.arguments import SDK
from tests.catalyst.openai.test_every_operation import (
    OPERATIONS,
    Sent,
    arguments_of,
    call,
    methods,  # noqa: F401 - fixtures
    of_one,
    recorder,  # noqa: F401
    rows,  # noqa: F401
)
from tests.server.conftest import Server, open_to_all

NO_ROUTE_OF_ITS_OWN = {"files.retrieve_content"}  # the deprecated form of files.content: another answer, at its route


@pytest.fixture
def through(workspace: Workspace, server: Server, recorder: Any) -> Iterator[dict[str, Any]]:  # noqa: F811 - the fixture
    """The methods of a client whose base URL is the gateway's, with a key that names those for which that has to be."""
    key = open_to_all(workspace, server, f"http://127.0.0.1:{recorder.server_port}")
    with openai.OpenAI(base_url=f"{server.url}/v1", max_retries=0, api_key=key, admin_api_key=key) as client:
        yield dict(SDK.methods(client))


def sent_by(recorder: Any, methods: dict[str, Any], row: dict[str, Any], given: Any) -> Sent | str:  # noqa: F811
    """What arrives for the arguments; or the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            call(methods, row, given)
        except openai.APIError as error:
            recorder.sent.clear()
            return f"{type(error).__name__}: {error}"
    return of_one(recorder)


def differences(
    through: dict[str, Any],
    methods: dict[str, Any],  # noqa: F811
    recorder: Any,  # noqa: F811
    row: dict[str, Any],
    *,
    stream: bool,
) -> Iterator[str]:
    given = arguments_of(row, least=False, stream=stream)
    theirs, ours = (sent_by(recorder, one, row, given) for one in (methods, through))
    if isinstance(ours, str) or isinstance(theirs, str):
        if ours != theirs:
            yield f"{row['name']}: {ours!r}, and without us {theirs!r}"
        return
    for field in Sent._fields:
        if getattr(ours, field) != getattr(theirs, field):
            yield f"{row['name']}: {field}:\n  {getattr(theirs, field)!r}\n  {getattr(ours, field)!r}"


def test_every_operation_arrives_as_the_official_sdk_sends_it(
    through: dict[str, Any],
    methods: dict[str, Any],  # noqa: F811
    rows: dict[str, Any],  # noqa: F811
    recorder: Any,  # noqa: F811
) -> None:
    found = [
        difference
        for _, _, name in OPERATIONS
        if name not in NO_ROUTE_OF_ITS_OWN
        for difference in differences(through, methods, recorder, rows[name], stream=False)
    ]
    assert not found, "\n".join(found)


def test_every_operation_that_streams_arrives_so(
    through: dict[str, Any],
    methods: dict[str, Any],  # noqa: F811
    rows: dict[str, Any],  # noqa: F811
    recorder: Any,  # noqa: F811
) -> None:
    streaming = [row for row in rows.values() if "stream" in row]
    assert len(streaming) == 15
    found = [
        difference for row in streaming for difference in differences(through, methods, recorder, row, stream=True)
    ]
    assert not found, "\n".join(found)
