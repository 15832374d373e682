"""The official SDKs see an odd upstream through the gateway as they see it directly."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from host.runtime.workspace import Workspace
from tests.conftest import KEY, with_packages
from tests.egress.conftest import Peer
from tests.egress.conftest import Server as Upstream
from tests.server.conftest import OPENAI, Server, send_to
from tests.server.openai.odd_answers import BETTER, CAPITALS, CUT, ODD, Odd, whole

SOURCES = Path(__file__).parent / "node"
MODEL = "gpt-4o-mini"
MESSAGES: Any = [{"role": "user", "content": "Hi"}]
WAVE = ("speech.wav", b"RIFF0000WAVEfmt ", "audio/wav")
SAME = {name: odd for name, odd in ODD.items() if not odd.differs}


class OddUpstream:
    """Answers each request as the scenario at hand says. `POST /scenario` with its name begins one; `POST /requests`
    answers how many requests it has had."""

    def __init__(self) -> None:
        self._odd = Odd("", whole({}))
        self._asked = 0
        self.last = b""  # the request that came last
        self.server = Upstream(self._behave, None, "127.0.0.1")
        self.url = self.server.url("").rstrip("/")

    def begin(self, name: str) -> None:
        self._odd, self._asked = ODD[name], 0

    @property
    def requests(self) -> int:
        return self._asked

    def close(self) -> None:
        self.server.close()

    def _behave(self, peer: Peer) -> None:
        while request := peer.request():
            head, _, body = request.partition(b"\r\n\r\n")
            match head.split(b" ")[1]:
                case b"/scenario":
                    self.begin(body.decode())
                    peer.send(whole({})[0])
                case b"/requests":
                    peer.send(whole(str(self._asked).encode())[0])
                case _:
                    self._asked += 1
                    self.last = request
                    answers = [self._odd.pieces, *self._odd.attempts]
                    for piece in answers[min(self._asked, len(answers)) - 1]:
                        peer.send(piece)
                    if self._odd.hangs:
                        peer.hang()
                    return


@pytest.fixture(scope="module")
def upstream() -> Iterator[OddUpstream]:
    with closing(OddUpstream()) as one:
        yield one


@pytest.fixture
def gateway(workspace: Workspace, serving: Callable[..., Server], upstream: OddUpstream) -> Server:
    send_to(workspace, OPENAI, upstream.url)
    return serving()


CALLS: Mapping[str, Callable[[openai.OpenAI], Any]] = {
    "chat": lambda client: client.chat.completions.create(model=MODEL, messages=MESSAGES),
    "chat_twice": lambda client: client.with_options(max_retries=1).chat.completions.create(
        model=MODEL, messages=MESSAGES
    ),
    "headers": lambda client: _of_api(client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)),
    "chat_stream": lambda client: client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True),
    "completions_stream": lambda client: client.completions.create(model=MODEL, prompt="Hi", stream=True),
    "responses": lambda client: client.responses.create(model=MODEL, input="Hi"),
    "responses_stream": lambda client: client.responses.create(model=MODEL, input="Hi", stream=True),
    "embeddings": lambda client: client.embeddings.create(model=MODEL, input="Hi", encoding_format="float"),
    "models": lambda client: client.models.list().data,
    "model": lambda client: client.models.retrieve(MODEL),
    "moderation": lambda client: client.moderations.create(model=MODEL, input="Hi"),
    "image": lambda client: client.images.generate(model=MODEL, prompt="Hi"),
    "image_stream": lambda client: client.images.generate(model=MODEL, prompt="Hi", stream=True),
    "speech": lambda client: _bytes(client.audio.speech.create(model=MODEL, voice="alloy", input="Hi").content),
    "content": lambda client: _bytes(client.files.content("file-1").content),
    "delete": lambda client: client.files.delete("file-1"),
    "files": lambda client: client.files.list().data,
    "transcription": lambda client: client.audio.transcriptions.create(model=MODEL, file=WAVE),
    "transcript": lambda client: client.audio.transcriptions.create(model=MODEL, file=WAVE, response_format="text"),
    "transcription_stream": lambda client: client.audio.transcriptions.create(model=MODEL, file=WAVE, stream=True),
}


def _bytes(content: bytes) -> Any:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _of_api(answer: Any) -> Any:
    found = {name: value for name, value in answer.headers.items() if name.startswith(("x-ratelimit-", "openai-"))}
    return {**found, "x-request-id": answer.headers.get("x-request-id")}


def _plain(value: Any) -> Any:
    """Numbers by their text, so that NaN is itself."""
    if isinstance(value, openai.BaseModel):
        return {"of": type(value).__name__, **_plain(value.to_dict(mode="python"))}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return repr(value) if isinstance(value, float | int) else value


def seen(client: openai.OpenAI, call: str) -> dict[str, Any]:
    """What a client sees: an answer, or events, and an error."""
    events: list[Any] = []
    try:
        answer = CALLS[call](client)
        if not isinstance(answer, openai.Stream):
            return {"answer": _plain(answer)}
        events.extend(_plain(event) for event in answer)
    except openai.APIStatusError as error:
        found = {"status": error.status_code, "body": error.body, "request_id": error.request_id, **_words(error)}
        return {"events": events, "error": found}
    except openai.APIError as error:
        return {"events": events, "error": _words(error)}
    except (httpx2.HTTPError, ValueError, AttributeError, TypeError) as error:  # the SDK lets them through
        return {"events": events, "error": {"kind": type(error).__name__}}
    return {"events": events}


def _words(error: openai.APIError) -> dict[str, Any]:
    return {
        "kind": type(error).__name__, "message": error.message, "code": error.code, "param": error.param, "type": error.type,
    }  # fmt: skip


@pytest.fixture
def both(gateway: Server, upstream: OddUpstream) -> Iterator[tuple[openai.OpenAI, openai.OpenAI]]:
    with (
        openai.OpenAI(base_url=f"{upstream.url}/v1", api_key=KEY, max_retries=0, timeout=20) as direct,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any-key", max_retries=0, timeout=20) as through,
    ):
        yield direct, through


def test_there_are_enough_scenarios_that_an_sdk_sees_alike() -> None:
    assert len(SAME) >= 60
    assert {odd.call for odd in ODD.values()} == set(CALLS)


def test_the_python_sdk_sees_an_odd_upstream_through_the_gateway_as_it_does_directly(
    both: tuple[openai.OpenAI, openai.OpenAI], upstream: OddUpstream
) -> None:
    direct, through = both
    found = []
    for client in (direct, through):
        outcomes = {}
        for name, odd in SAME.items():
            upstream.begin(name)
            outcomes[name] = {**seen(client, odd.call), "requests": upstream.requests}
        found.append(outcomes)
    assert different(*found) == {}


@pytest.mark.node
def test_the_node_sdk_sees_an_odd_upstream_through_the_gateway_as_it_does_directly(
    gateway: Server, upstream: OddUpstream
) -> None:
    installed = with_packages("openai-node", SOURCES)
    asked = json.dumps([[name, odd.call] for name, odd in SAME.items() if not odd.hangs])  # the SDK waits for the end
    direct, through = (
        json.loads(
            subprocess.run(
                ["node", "differ.mjs", f"{url}/v1", upstream.url],
                cwd=installed, input=asked, capture_output=True, text=True, timeout=300, check=True,
                env={**os.environ, "OPENAI_API_KEY": KEY},
            ).stdout
        )
        for url in (upstream.url, gateway.url)
    )  # fmt: skip
    assert different(direct, through) == {}


REQUESTS: Mapping[str, Callable[[openai.OpenAI], Any]] = {
    "numbers as they were written": lambda client: client.post(
        "/chat/completions",
        cast_to=object,
        content=b'{"model": "gpt-4o-mini", "messages": [], "temperature": 1e0, "top_p": 1.0, "seed": -0, "x": [1e3, 3.14159265358979323846, '
        b"123456789012345678901234567890]}",
        options={"headers": {"content-type": "application/json"}},
    ),
    "text of every kind": lambda client: client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": 'é😀\u2028\x00\u202f"\\/'}]
    ),
    "a query on a POST": lambda client: client.chat.completions.create(
        model=MODEL, messages=MESSAGES, extra_query={"api-version": "2024-06-01", "beta": "true"}
    ),
    "a query that has the name of a field": lambda client: client.chat.completions.create(
        model=MODEL, messages=MESSAGES, extra_query={"model": "other", "user": "a b&c=d"}
    ),
    "a query with a list": lambda client: client.responses.retrieve(
        "resp_1", include=["reasoning.encrypted_content", "x"]
    ),  # type: ignore[list-item]
    "a query on models": lambda client: client.models.list(extra_query={"limit": 3, "after": "a/b"}),
    "fields that nobody knows": lambda client: client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        extra_body={"headers": {"a": 1}, "multipart": [1], "body": "x", "query": {"q": 1}},
    ),
    "an attachment that is data": lambda client: client.chat.completions.create(
        model=MODEL, messages=MESSAGES, extra_body={"metadata": {"$attachment": "a"}, "x": [{"$json": "b"}]}
    ),
    "headers of the API": lambda client: client.with_options(
        default_headers={"OpenAI-Beta": "assistants=v2", "Idempotency-Key": "k-1", "X-Client-Request-Id": "c-1"}
    ).chat.completions.create(model=MODEL, messages=MESSAGES),
    "an organization and a project": lambda client: client.with_options(
        organization="org-1", project="proj_1"
    ).chat.completions.create(model=MODEL, messages=MESSAGES),
    "a model with slashes": lambda client: client.models.retrieve("meta-llama/Llama-3"),
    "a model with a colon": lambda client: client.models.retrieve("ft:gpt-4o:org::id"),
    "a file of many names": lambda client: client.files.create(
        file=("Bildschirmfoto 10.04.25\u202fam é.jsonl", b'{"a": 1}\n'), purpose="batch", extra_body={"multipart": "x"}
    ),
}
_SENT = ("openai-beta", "openai-organization", "openai-project", "idempotency-key", "x-client-request-id")


@pytest.mark.parametrize("name", REQUESTS)
def test_the_upstream_sees_the_same_request(
    both: tuple[openai.OpenAI, openai.OpenAI], upstream: OddUpstream, name: str
) -> None:
    found = []
    for client in both:
        upstream.begin("an empty object")
        REQUESTS[name](client)
        found.append(_sent(upstream.last))
    assert found[1] == found[0]


def _sent(request: bytes) -> dict[str, Any]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    kind, _, boundary = headers.get("content-type", "").partition("; boundary=")
    found: dict[str, Any] = {"line": first, "type": kind, **{name: headers.get(name) for name in _SENT}}
    if boundary:
        found["parts"] = sorted(one.strip(b"\r\n") for one in body.split(b"--" + boundary.strip('"').encode()))
    else:
        found["body"] = json.loads(body, parse_float=str, parse_int=str) if body else None
    return found


@pytest.mark.parametrize(
    "name", [name for name, odd in BETTER.items() if odd.call == "chat" and odd.differs != CAPITALS]
)
def test_what_is_no_answer_is_an_error_of_the_gateway(
    both: tuple[openai.OpenAI, openai.OpenAI], upstream: OddUpstream, name: str
) -> None:
    upstream.begin(name)
    with pytest.raises(openai.InternalServerError) as caught:
        CALLS["chat"](both[1])
    assert caught.value.status_code == 502
    assert caught.value.message
    assert upstream.requests == 1


@pytest.mark.parametrize(
    "name", [name for name, odd in BETTER.items() if odd.differs == CUT and odd.call == "chat_stream"]
)
def test_a_cut_of_a_stream_is_an_error_after_the_same_events(
    both: tuple[openai.OpenAI, openai.OpenAI], upstream: OddUpstream, name: str
) -> None:
    found = []
    for client in both:
        upstream.begin(name)
        found.append(seen(client, "chat_stream"))
    direct, through = found
    assert through["events"] == direct["events"] != []
    assert through["error"]["kind"] == "APIError"


def test_a_response_ends_with_its_last_event_where_the_upstream_stays(
    both: tuple[openai.OpenAI, openai.OpenAI], upstream: OddUpstream
) -> None:
    upstream.begin("a response that stays open after its end")
    events = list(CALLS["responses_stream"](both[1]))
    assert [one.type for one in events] == ["response.created", "response.output_text.delta", "response.completed"]


def test_models_in_a_bare_list_are_a_list(both: tuple[openai.OpenAI, openai.OpenAI], upstream: OddUpstream) -> None:
    upstream.begin("models in a bare list")
    assert [one.id for one in CALLS["models"](both[1])] == [MODEL]


def test_a_type_in_capitals_is_the_same_type(both: tuple[openai.OpenAI, openai.OpenAI], upstream: OddUpstream) -> None:
    upstream.begin("a type in capitals")
    assert CALLS["chat"](both[1]).choices[0].message.content == "Hello"


def different(direct: Mapping[str, Any], through: Mapping[str, Any]) -> dict[str, Any]:
    """Only the upstream's own request id counts: where it gives none, the gateway gives one."""
    found = {}
    for name, seen_directly in direct.items():
        seen_through = through[name]
        for ident in ("request_id", "requestID"):
            if "error" in seen_directly and seen_directly["error"].get(ident) is None:
                seen_directly.get("error", {}).pop(ident, None)
                seen_through.get("error", {}).pop(ident, None)
        if seen_directly != seen_through:
            found[name] = (seen_directly, seen_through)
    return found
