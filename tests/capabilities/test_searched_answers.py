"""Which answers are searched for which secrets, and that a guest learns nothing from how they are searched."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from host import Host, Policy, Secret
from host.capabilities import configure
from host.core.limits import CEILING
from host.core.names import SecretName
from host.core.wit import FETCH, SECRETS, STREAMING
from host.egress import EgressError
from host.policy.document import SecretGrant
from host.policy.permissions import Requested, compute_grant
from host.policy.urls import DomainPattern
from host.run import Run
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders, SecretValue, new_placeholder
from tests.capabilities.test_upstream import Recorded
from tests.egress.conftest import Peer
from tests.probing import (
    ORIGIN,
    TOKEN,
    Kept,
    asking,
    calls,
    chunk,
    chunked,
    origin_of,
    probe,
    response,
    serving,
)

ELSEWHERE = "https://other.test"
GET = ["secrets.get", "TOKEN"]
OTHER = "oth-Test-9876543210zyxwvutsrqponmlk"  # as long as TOKEN, of the same kinds of characters


def two_origins(bound: str, other: str) -> dict[str, Any]:
    """A policy for the probe, of two domains. The secret goes to the first only."""
    return {
        "secrets": {"TOKEN": Secret(TOKEN, domains=["api.test"])},
        "allowed_domains": ["api.test", "other.test"],
        "upstreams": {ORIGIN: bound, ELSEWHERE: other},
    }


# An origin that a secret is not bound to.


@pytest.mark.parametrize("known", range(4, len(TOKEN) + 1, 6))
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_a_guest_whose_own_server_streams_guesses_of_a_secret_learns_nothing_from_the_cuts(
    host: Host, known: int, right: bool
) -> None:
    guess = TOKEN[: known - 1] + (TOKEN[known - 1] if right else "!")
    was_read = threading.Event()

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked() + chunk(b"<" + guess.encode()))
        assert was_read.wait(10)
        peer.send(chunk(b">") + b"0\r\n\r\n")

    with serving(response()) as bound, serving(behave) as own:
        stream = probe(host, **two_origins(origin_of(bound), origin_of(own))).stream(
            calls(
                ["streaming.request", asking(ELSEWHERE)],
                ["streaming.read", "$0.handle"],
                ["output.emit", "read"],
                ["streaming.read", "$0.handle"],
                backwards=True,
            )
        )
        assert next(stream) == {"raw": "read"}
        was_read.set()
        list(stream)
    seen = stream.result.data[::-1]
    if guess != TOKEN:  # what leaves the run is searched, and a whole guess is a secret there
        assert f"'data': '<{guess}'" in seen
    assert "'data': '>'" in seen


def test_an_answer_of_an_origin_without_the_secret_is_given_as_it_is(host: Host) -> None:
    echo = response(b"say " + TOKEN.encode(), "200 OK", f"X-Echo: {TOKEN}")
    with serving(echo) as bound, serving(echo) as other:
        one = probe(host, **two_origins(origin_of(bound), origin_of(other)))
        asked = [["fetch.request", asking(ORIGIN)], ["fetch.request", asking(ELSEWHERE)]]
        seen = one.run(calls(*asked, backwards=True)).data[::-1]
    at_bound, at_other = seen.split("}, {", 1)
    assert TOKEN not in at_bound
    assert at_other.count(TOKEN) == 2, "in the header and in the body"


def test_an_answer_is_searched_in_a_run_that_did_not_send_the_secret(host: Host) -> None:
    with serving(response(TOKEN.encode())) as server:
        one = probe(host, **two_origins(origin_of(server), origin_of(server)))
        assert TOKEN not in one.run(calls(["fetch.request", asking(ORIGIN)], backwards=True)).data[::-1]


def test_each_origin_is_searched_for_its_own_secrets(host: Host) -> None:
    secrets = {"TOKEN": Secret(TOKEN, domains=["api.test"]), "OTHER": Secret(OTHER, domains=["other.test"])}
    both = response(f"{TOKEN} {OTHER}".encode())
    with serving(both) as server, serving(both) as other:
        policy = two_origins(origin_of(server), origin_of(other))
        one = probe(host, **{**policy, "secrets": secrets})
        asked = [["fetch.request", asking(ORIGIN)], ["fetch.request", asking(ELSEWHERE)]]
        seen = one.run(calls(*asked, backwards=True)).data[::-1]
    at_first, at_second = seen.split("}, {", 1)
    assert (TOKEN in at_first, OTHER in at_first) == (False, True)
    assert (TOKEN in at_second, OTHER in at_second) == (True, False)


def test_what_leaves_the_run_is_searched_whatever_origin_it_came_from(host: Host) -> None:
    def behave(peer: Peer) -> None:
        while request := peer.request():
            relayed = b"relayed" in request
            peer.send(response(f'data: "{TOKEN}"\n\n'.encode() if relayed else json.dumps([TOKEN]).encode()))

    attached = asking(ELSEWHERE, response_encoding="attachment")
    with serving(response()) as bound, serving(behave) as other:
        stream = probe(host, **two_origins(origin_of(bound), origin_of(other))).stream(
            {
                "calls": [
                    ["fetch.request", attached],
                    ["streaming.request", asking(f"{ELSEWHERE}/relayed", relay=True)],
                    ["streaming.read", "$1.handle"],
                    ["fetch.request", asking(ELSEWHERE)],
                    ["log.write", "info", "$3.body"],
                    ["output.emit", "$3.body"],
                ],
                "raw": '{"status": 200, "data": [{"$json": "$0.attachment"}, {"$attachment": "$0.attachment"}, $3.body]}',
            }
        )
        events = list(stream)
    assert len(events) == 2
    for shown in (events, stream.result, [one.data for one in stream.result.attachments.values()]):
        assert TOKEN not in repr(shown)
        assert "host-secret-" in repr(shown)


# The origin of a secret: pieces, headers and errors.


class Calling:
    """A run of a catalyst with `secrets` bound to api.test, without a sandbox: `call` is the guest's part."""

    def __init__(self, answer: Recorded, *secrets: str, domain: str = "api.test") -> None:
        names = [SecretName.parse(f"TOKEN_{number}") for number, _ in enumerate(secrets)]
        values = dict(zip(names, map(SecretValue, secrets), strict=True))
        places = frozenset(("header",))
        grant = compute_grant(
            reference="c:local.probe",
            interfaces=(FETCH, STREAMING, SECRETS),
            requested=Requested(),
            policy=Policy(allowed_domains=["api.test", "other.test"]),
            secrets={name: SecretGrant(name, (DomainPattern.parse(domain),), places, reveal=False) for name in names},
            ceiling=CEILING,
        )
        self.answer = answer
        functions = configure(
            grant, upstream=self, sockets=lambda: pytest.fail("it opens none"), secrets=values, config={}
        )
        placeholders = Placeholders()
        for name in names:
            placeholders.bind(str(name), new_placeholder())
        redactor = Redactor({placeholders.by_name[str(name)]: value for name, value in values.items()})
        self.run = Run(limits=grant.limits, sink=Kept(), redactor=redactor, placeholders=placeholders)
        self._functions = functions

    def send(self, run: Run, request: Any) -> Recorded:
        return self.answer

    def call(self, function: tuple[str, str], argument: Any) -> Any:
        text = argument if isinstance(argument, str) else json.dumps(argument)
        return json.loads(self._functions[function[0]][function[1]](self.run, text))

    def pieces(self, url: str = ORIGIN) -> list[str]:
        """What each read of a stream returned."""
        handle = self.call((STREAMING, "request"), asking(url))["handle"]
        read = (STREAMING, "read")
        return [piece["data"] for piece in iter(lambda: self.call(read, handle), {"data": "", "done": True})]


def begun(text: str) -> list[bytes]:
    return [text[:length].encode() for length in range(1, len(text))]


PARTIAL: list[Any] = [
    pytest.param(lambda key: begun(key[: len(key) // 2]), id="longer and longer beginnings"),
    pytest.param(lambda key: [b"<" + part for part in begun(key[: len(key) // 2])], id="behind a sign"),
    pytest.param(lambda key: [part + b" " for part in begun(key[: len(key) // 2])], id="each with an end"),
    pytest.param(lambda key: [b"data: " + part + b"\n\n" for part in begun(key[: len(key) // 2])], id="as events"),
    pytest.param(lambda key: [bytes((byte,)) for byte in key[:18].encode()], id="one by one"),
    pytest.param(lambda key: [(key[:18] + " ").encode() * 500], id="many in one piece"),
    pytest.param(lambda key: [key[:18].encode() * 500] * 3, id="many in one run"),
    pytest.param(lambda key: [key[:15].encode().hex().encode(), b"\n"], id="in hex"),
    pytest.param(lambda key: ["".join(f"%{ord(c):02x}" for c in key[:15]).encode(), b"!"], id="in percent signs"),
]


@pytest.mark.parametrize("partial", PARTIAL)
def test_a_guest_that_gets_beginnings_of_a_secret_echoed_reads_the_same_pieces_as_of_another(
    partial: Callable[[str], list[bytes]],
) -> None:
    """The pieces of the text, and the number of the reads, with the secret in place and with one in its place that has
    nothing in common with the text."""
    text = partial(TOKEN)
    with_it, without_it = Calling(Recorded(*text), TOKEN), Calling(Recorded(*text), OTHER)
    seen = with_it.pieces()
    assert seen == without_it.pieces()
    assert "".join(seen).encode() == b"".join(text)


def test_at_an_origin_without_secrets_nothing_is_held_back() -> None:
    text = [b"<", TOKEN[:20].encode(), b"%", b"4", TOKEN.encode(), b"!"]
    for one in (Calling(Recorded(*text), TOKEN, domain="other.test"), Calling(Recorded(*text))):
        assert one.pieces() == [piece.decode() for piece in text]


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r", "\n", '"}\n', " \n", "}\r\n"])
def test_a_line_is_read_as_soon_as_it_is_there(end: str) -> None:
    line = f'data: {{"delta": "tok-Te"}}{end}'
    assert Calling(Recorded(line.encode(), b"more "), TOKEN).pieces() == [line, "more "]


def test_a_headers_value_and_name_and_an_error_are_searched() -> None:
    answer = Recorded(b"", **{"x-echo": TOKEN, f"x-{TOKEN.lower()}": "1"})
    shown = Calling(answer, TOKEN).call((FETCH, "request"), asking(ORIGIN))
    assert TOKEN.lower() not in json.dumps(shown).lower()
    assert len(shown["headers"]) == 2
    elsewhere = Calling(answer, TOKEN, domain="other.test").call((FETCH, "request"), asking(ORIGIN))
    assert elsewhere["headers"]["x-echo"] == TOKEN


@pytest.mark.parametrize("late", [True, False], ids=["in mid-answer", "at once"])
def test_an_error_that_quotes_the_answer_is_searched(late: bool) -> None:
    failure = EgressError("http_error", f"a malformed header: {TOKEN}")

    class Failing(Calling):
        def send(self, run: Run, request: Any) -> Recorded:
            if not late:
                raise failure
            return Recorded(b"begun", failure=failure)

    for domain, shown in (("api.test", False), ("other.test", True)):
        told = Failing(Recorded(), TOKEN, domain=domain).call((FETCH, "request"), asking(ORIGIN))
        assert (TOKEN in told["error"]["message"]) is shown


def test_the_scanner_of_a_set_of_secrets_is_compiled_once() -> None:
    redactor = Redactor({"<0>": SecretValue(TOKEN), "<1>": SecretValue(OTHER)})
    runs = [redactor.renamed({"<0>": f"<a{run}>", "<1>": f"<b{run}>"}) for run in range(2)]
    one, other = (run.limited([f"<a{number}>"]) for number, run in enumerate(runs))
    assert one._scanner is other._scanner
    assert one.text(f"{TOKEN} {OTHER}") == f"<a0> {OTHER}"
    assert runs[0].limited(["<a0>", "<b0>"]) is runs[0]


# Charsets.

CHARSETS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "cp037", "cp500", "cp1140", "latin-1", "utf-8"]


@pytest.mark.parametrize("charset", CHARSETS)
@pytest.mark.parametrize("echo", [TOKEN, "".join(f"&#{ord(c)};" for c in TOKEN), json.dumps(TOKEN)[1:-1]])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_guest_that_has_the_echo_written_in_another_charset_does_not_get_the_secret(
    charset: str, echo: str, size: int
) -> None:
    body = f"say {echo} again. ".encode(charset)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    answer = Recorded(*pieces, **{"content-type": f'text/plain; Charset="{charset.upper()}"'})
    one = Calling(answer, TOKEN)
    shown = one.call((FETCH, "request"), asking(ORIGIN, response_encoding="base64"))
    text = base64.b64decode(shown["body"]).decode(charset)
    assert text == f"say {one.run.placeholders.by_name['TOKEN_0']} again. "


@pytest.mark.parametrize("charset", ["utf-16", "utf-32", "utf-16-le", "utf-32-be"])
def test_a_byte_order_mark_declares_a_charset_and_an_undeclared_one_is_searched_too(charset: str) -> None:
    body = f"say {TOKEN} again. ".encode(charset)
    shown = Calling(Recorded(*[body[at : at + 2] for at in range(0, len(body), 2)]), TOKEN).call(
        (FETCH, "request"), asking(ORIGIN, response_encoding="base64")
    )
    seen = base64.b64decode(shown["body"])
    assert TOKEN.encode() not in seen.replace(b"\0", b"")
    if charset in ("utf-16", "utf-32"):
        assert "host-secret-" in seen.decode(charset)


@pytest.mark.parametrize("charset", [*CHARSETS, "utf-9", "x-user-defined", "iso-2022-jp", "rot13", ""])
@pytest.mark.parametrize("body", [b"clean \xff\xfe\x00\xd8\x00 text", b"\xff\xfea", b"\0", "Grüße".encode("utf-16")])
def test_an_answer_without_the_secret_comes_byte_by_byte_whatever_charset_it_declares(
    charset: str, body: bytes
) -> None:
    answer = Recorded(body[:3], body[3:], b"more", **{"content-type": f"text/plain; charset={charset}"})
    shown = Calling(answer, TOKEN).call((FETCH, "request"), asking(ORIGIN, response_encoding="base64"))
    assert base64.b64decode(shown["body"]) == body + (b"more" if len(body) > 3 else b"")


@pytest.mark.parametrize("charset", ["utf-7", "UTF7", '"utf-7"', "unicode-1-1-utf-7", "utf_7", "x-imap4-modified-utf7"])
def test_an_answer_in_utf_7_is_refused_where_there_is_a_secret_to_search_for(charset: str) -> None:
    answer = Recorded(b"x", **{"content-type": f"text/plain; charset={charset}"})
    told = Calling(answer, TOKEN).call((FETCH, "request"), asking(ORIGIN))
    assert told["error"]["type"] == "http_error"
    assert answer.closed
    elsewhere = Calling(Recorded(b"x", **dict(answer.headers)), TOKEN, domain="other.test")
    assert elsewhere.call((FETCH, "request"), asking(ORIGIN))["body"] == "x"
