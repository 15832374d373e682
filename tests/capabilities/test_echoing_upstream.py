"""Any guest against any upstream that echoes: whatever the guest asks, and however the upstream cuts, spells and codes what
it got, the guest sees no twelve characters of the secret in a row. HYPOTHESIS_PROFILE=explore tries many more."""

from __future__ import annotations

import ast
import base64
import html
import itertools
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host import Host, Secret
from tests.egress.conftest import Peer
from tests.probing import ORIGIN, Kept, asking, calls, chunk, chunked, origin_of, probe, response, serving

PUBLIC = "sk-proj-"
KEY = PUBLIC + "9fKq2LmX7vTb4RzW8nYc3HsJ6dGp1AeUo5-iB_Q0"
SEEN = 12

Coding = Callable[[bytes], bytes]
CODINGS: dict[str, Coding] = {
    "as it is": bytes,
    "capitals": bytes.upper,
    "small letters": bytes.lower,
    "base64": base64.b64encode,
    "base64 of URLs": lambda echo: base64.urlsafe_b64encode(echo).rstrip(b"="),
    "wrapped base64": lambda echo: base64.encodebytes(b"x" * 40 + echo),
    "base32": base64.b32encode,
    "hex": lambda echo: echo.hex().encode(),
    "hex with colons": lambda echo: echo.hex(":").upper().encode(),
    "percent signs": lambda echo: quote(echo, safe="").encode(),
    "percent signs throughout": lambda echo: b"".join(b"%%%02X" % byte for byte in echo),
    "JSON": lambda echo: json.dumps(echo.decode("latin-1"))[1:-1].encode(),
    "JSON escapes": lambda echo: b"".join(b"\\u%04x" % byte for byte in echo),
    "HTML": lambda echo: html.escape(echo.decode("latin-1")).encode("latin-1"),
    "references": lambda echo: b"".join(b"&#%d;" % byte for byte in echo),
    "UTF-16": lambda echo: echo.decode("latin-1").encode("utf-16-le"),
}
AFTER_CAPITALS = {"capitals", "small letters"}  # nobody can undo a coding whose letters were changed


@st.composite
def echoes(draw: st.DrawFn) -> dict[str, Any]:
    """What the upstream does: which slice of which header it shows, coded how, where, and in which pieces."""
    names = draw(st.lists(st.sampled_from(sorted(CODINGS)), min_size=1, max_size=2))
    if len(names) == 2 and names[1] in AFTER_CAPITALS:
        names.reverse()
    start = draw(st.integers(0, len(KEY) - SEEN))
    return {
        "codings": names,
        "slice": (start, draw(st.integers(start + SEEN, len(KEY) + 7))),
        "around": draw(
            st.sampled_from(["{}", "say {} again\n", '{{"error": "no key {}"}}', "data: {}\n\n", "x{}y", "key={}&x=1"])
        ),
        "cuts": draw(st.lists(st.integers(1, 400), max_size=6)),
        "header": draw(st.booleans()),
    }


@st.composite
def programs(draw: st.DrawFn) -> list[Any]:
    """The guest's part: requests with the secret or without, read at once or in pieces, in any encoding."""
    made: list[Any] = [["secrets.get", "TOKEN"]]
    for _ in range(draw(st.integers(1, 3))):
        value = draw(st.sampled_from(["Bearer $0", "$0", "none"]))
        message = asking(headers={"Authorization": value})
        if draw(st.booleans()):
            message["response_encoding"] = draw(st.sampled_from(["text", "base64"]))
            made.append(["fetch.request", message])
        else:
            made.append(["streaming.request", message])
            made.append(["streaming.read_all", f"${len(made) - 1}.handle"])
    return made


def behaving(echo: dict[str, Any]) -> Callable[[Peer], None]:
    last = KEY.encode()  # it keeps what it got, and shows it in later answers

    def behave(peer: Peer) -> None:
        nonlocal last
        while request := peer.request():
            if found := re.search(rb"(?i)\nauthorization: (?:Bearer )?(sk-[^\r]+)", request):
                last = found[1]
            start, end = echo["slice"]
            shown = last[start:end]
            for name in echo["codings"]:
                shown = CODINGS[name](shown)
            before, behind = echo["around"].format("\0").split("\0")
            body = before.encode() + shown + behind.encode()
            fields = (
                [f"X-Echo: {shown.decode('latin-1')}"] if echo["header"] and shown.isascii() and shown.isalnum() else []
            )
            if not echo["cuts"]:
                peer.send(response(body, "401 Unauthorized", *fields))
                continue
            peer.send(chunked("200 OK", *fields))
            edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in echo["cuts"])})
            for at, until in itertools.pairwise(edges):
                peer.send(chunk(body[at:until]))
            peer.send(b"0\r\n\r\n")

    return behave


def texts(value: Any) -> list[str]:
    """All texts in what a guest was told; the pieces of a stream as one."""
    match value:
        case str():
            return [value]
        case {"pieces": list(pieces), **more}:
            return ["".join(pieces), *texts(more)]
        case {"body": str(body), "body_encoding": "base64", **more}:
            return [base64.b64decode(body).decode("latin-1"), *texts(more)]
        case dict():
            return [text for one in (*value.keys(), *value.values()) for text in texts(one)]
        case list() | tuple():
            return [text for one in value for text in texts(one)]
    return []


def undone(text: str) -> set[str]:
    """What a guest can make of `text` by undoing one coding."""
    made = {text, text.replace("\0", ""), unquote(text, "latin-1"), html.unescape(text)}
    made.add(re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), text))
    for run in re.findall(r"[A-Za-z0-9+/_\r\n-]{16,}", text):
        standard = re.sub(r"\s", "", run).replace("-", "+").replace("_", "/")
        for cut in range(4):
            made.add(base64.b64decode(standard[cut:] + "A" * (-(len(standard) - cut) % 4)).decode("latin-1"))
    for run in re.findall(r"[A-Z2-7]{16,}", text):
        for cut in range(8):
            part = run[cut : cut + (len(run) - cut) // 8 * 8]
            made.add(base64.b32decode(part).decode("latin-1"))
    for run in re.findall(r"(?:[0-9A-Fa-f]{2}:?){12,}", text):
        digits = run.replace(":", "")
        for cut in range(2):
            made.add(bytes.fromhex(digits[cut : cut + (len(digits) - cut) // 2 * 2]).decode("latin-1"))
    return made


def holds_a_part(told: Any) -> str | None:
    """Twelve characters of the secret in a row, in any text of `told`, behind at most two codings."""
    secret = KEY.lower()[len(PUBLIC) :]
    parts = [secret[at : at + SEEN] for at in range(len(secret) - SEEN + 1)]
    for text in texts(told):
        for once in undone(text):
            for twice in undone(once):
                if (found := next((part for part in parts if part in twice.lower()), None)) is not None:
                    return found
    return None


@pytest.mark.parametrize("name", CODINGS)
def test_control_each_echo_would_be_recognised(name: str) -> None:
    for other in ("as it is", "base64", "percent signs"):
        shown = CODINGS[other](CODINGS[name](KEY.encode()[5:30])).decode("latin-1")
        assert holds_a_part([{"body": f"say {shown} again"}]), other


@settings(max_examples=settings().max_examples // 3)
@given(program=programs(), echo=echoes())
def test_no_guest_gets_twelve_characters_of_a_secret_out_of_any_upstream_that_echoes(
    host: Host, program: list[Any], echo: dict[str, Any]
) -> None:
    with serving(behaving(echo)) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": Secret(KEY, domains=["api.test"])})
        result = one.run(calls(*program, backwards=True))
        plain = one.run(calls(*program))
    told = ast.literal_eval(result.data[::-1])
    assert holds_a_part(told) is None
    assert holds_a_part([plain.data]) is None
    assert holds_a_part([repr(result.execution.decisions), repr(result.execution.logs)]) is None


@settings(max_examples=settings().max_examples // 10)
@given(
    known=st.integers(0, SEEN - 2),
    at=st.integers(len(PUBLIC), len(KEY) - SEEN),
    echo=echoes(),
    other=st.sampled_from("!zQ7"),
)
def test_no_guest_that_knows_less_than_a_window_learns_whether_its_next_guess_is_right(
    host: Host, known: int, at: int, echo: dict[str, Any], other: str
) -> None:
    """The upstream echoes what the guest sends: the right character behind a part that the guest knows, or another."""
    told = []
    for guess in (KEY[at : at + known + 1], KEY[at : at + known] + other):
        coded = guess.encode()
        for name in echo["codings"]:
            coded = CODINGS[name](coded)
        before, behind = echo["around"].format("\0").split("\0")
        body = before.encode() + coded + behind.encode()
        edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in echo["cuts"])})

        def behave(peer: Peer, body: bytes = body, edges: list[int] = edges) -> None:
            while peer.request():
                peer.send(chunked())
                for start, end in itertools.pairwise(edges):
                    peer.send(chunk(body[start:end]))
                peer.send(b"0\r\n\r\n")

        kept = Kept()
        with Host(sink=kept) as other_host, serving(behave) as server:
            one = probe(other_host, origin_of(server), secrets={"TOKEN": Secret(KEY, domains=["api.test"])})
            opened = ["streaming.request", asking(ORIGIN)]
            seen = one.run(
                calls(
                    ["fetch.request", asking(ORIGIN, response_encoding="base64")],
                    opened,
                    ["streaming.read_all", "$1.handle"],
                )
            ).data
        assert base64.b64decode(seen[0]["body"]) == body, "what holds no window comes as it was"
        told.append("".join(seen[2]["pieces"]))
    assert "host-secret-" not in "".join(told)
