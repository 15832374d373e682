"""The four promises of the design, each attacked, and each with the control that shows that the attack would be seen.

1. A secret never enters a sandbox. 2. A fresh sandbox for every operation. 3. Authority is visible. 4. Nothing hangs.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import quote

import pytest

from host import CancelToken, Host, Policy, Secret, errors
from host.component.wasm import MANIFEST_SECTION, append_section
from host.egress import Egress
from tests.conftest import GUESTS, keep_compiled, late
from tests.egress.conftest import Peer
from tests.probing import (
    TOKEN,
    Kept,
    answers,
    asking,
    calls,
    chunk,
    chunked,
    error_type,
    guest,
    origin_of,
    probe,
    response,
    serving,
)

GET = ["secrets.get", "TOKEN"]
WITH_KEY = ["fetch.request", asking(headers={"Authorization": "Bearer $0"})]


# 1. A secret never enters a sandbox.


def seen_by_guest(data: str) -> str:
    """What a guest was told, from the text that it returned backwards."""
    return data[::-1]


def test_a_guest_that_prints_its_secret_prints_a_placeholder_and_the_upstream_gets_the_secret(host: Host) -> None:
    with serving(response()) as server:
        result = probe(host, origin_of(server), secrets={"TOKEN": TOKEN}).run(calls(GET, WITH_KEY, backwards=True))
        assert f"Bearer {TOKEN}".encode() in server.requests[0]
    told = seen_by_guest(result.data)
    assert "host-secret-" in told
    assert TOKEN not in told


def test_control_a_revealed_secret_is_seen_where_these_tests_look(host: Host) -> None:
    kept = Kept()
    with Host(sink=kept) as auditing:
        one = probe(auditing, secrets={"TOKEN": Secret(TOKEN, reveal=True)})
        assert TOKEN in seen_by_guest(one.run(calls(GET, backwards=True)).data)
    assert "secret.reveal" in [event.kind for event in kept]


MIXED = "".join(f"%{ord(c):02X}" if index % 2 else c for index, c in enumerate(TOKEN))
ECHOES = [
    pytest.param(TOKEN, id="as it is"),
    pytest.param(base64.b64encode(TOKEN.encode()).decode(), id="in base64"),
    pytest.param(base64.b64encode(b"x" + TOKEN.encode() + b"y").decode(), id="in base64, one byte further"),
    pytest.param(base64.b64encode(b"xy" + TOKEN.encode()).decode().rstrip("="), id="in base64, two bytes further"),
    pytest.param(base64.urlsafe_b64encode(b"user:" + TOKEN.encode()).decode(), id="in the base64 of URLs"),
    pytest.param(TOKEN.encode().hex(), id="in hex"),
    pytest.param(TOKEN.encode().hex().upper(), id="in capital hex"),
    pytest.param(quote(TOKEN, safe="").replace("-", "%2D"), id="percent-encoded"),
    pytest.param(MIXED, id="half of it percent-encoded"),
    pytest.param("".join(f"\\u{ord(c):04x}" for c in TOKEN), id="in JSON escapes"),
    pytest.param(json.dumps(json.dumps({"k": TOKEN})), id="in JSON inside JSON"),
]


def plain(text: str) -> set[str]:
    """What anybody could make of `text` to get at a secret in it."""
    made = {text}
    for word in re.findall(r"[A-Za-z0-9+/_-]{16,}", text):
        standard = word.replace("-", "+").replace("_", "/")
        for cut in (standard[begin:] for begin in range(4)):
            whole = cut[:-1] if len(cut) % 4 == 1 else cut
            made.add(base64.b64decode(whole + "=" * (-len(whole) % 4)).decode("latin-1"))
    for word in re.findall(r"[0-9A-Fa-f]{32,}", text):
        made.add(bytes.fromhex(word[: len(word) // 2 * 2]).decode("latin-1"))
    made.add(re.sub(r"%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), text))
    made.add(re.sub(r"\\+u00([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), text))
    return made


def holds_secret(text: str) -> bool:
    return any(TOKEN in one for one in plain(text))


@pytest.mark.parametrize("echo", ECHOES)
def test_control_each_echo_would_be_recognised(echo: str) -> None:
    assert holds_secret(echo)


def echoing(echo: str) -> bytes:
    return response(json.dumps({"error": f"no such key: {echo}!"}).encode(), "401 Unauthorized", f"X-Echo: <{echo}>")


@pytest.mark.parametrize("echo", ECHOES)
def test_an_upstream_that_echoes_the_secret_shows_it_to_nobody(echo: str) -> None:
    kept = Kept()
    with Host(sink=kept) as host, serving(echoing(echo)) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        told = seen_by_guest(one.run(calls(GET, WITH_KEY, backwards=True)).data)
        encoded = {**WITH_KEY[1], "response_encoding": "base64"}
        told_encoded = seen_by_guest(one.run(calls(GET, ["fetch.request", encoded], backwards=True)).data)
        attached = {**WITH_KEY[1], "response_encoding": "attachment"}
        result = one.run(
            {
                "calls": [GET, ["fetch.request", attached], ["log.write", "info", "$1"]],
                "raw": '{"status": 200, "data": [{"$json": "$1.attachment"}, {"$attachment": "$1.attachment"}]}',
            }
        )
        assert f"Bearer {TOKEN}".encode() in server.requests[0]
    assert "X-Echo".lower() in told
    assert not holds_secret(told)
    assert not holds_secret(told_encoded)
    assert not holds_secret(json.dumps(result.data))
    assert not any(holds_secret(one.data.decode()) for one in result.attachments.values())
    assert result.attachments
    assert not holds_secret(repr(result))
    assert result.execution.logs
    assert not holds_secret(repr(kept))


def test_an_upstream_that_echoes_the_secret_as_a_headers_name_shows_it_to_nobody(host: Host) -> None:
    lower = TOKEN.lower()
    with serving(response(b"", "200 OK", f"{lower}: 1")) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": lower})
        told = seen_by_guest(one.run(calls(GET, WITH_KEY, backwards=True)).data)
    assert "status" in told
    assert lower not in told


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("relay", [False, True], ids=["read by the guest", "relayed"])
def test_a_secret_cut_over_the_chunks_of_a_stream_is_still_found(host: Host, size: int, relay: bool) -> None:
    text = f'data: {{"a": "{TOKEN}", "b": "{base64.b64encode(TOKEN.encode()).decode()}"}}\n\n'.encode()

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked())
        for at in range(0, len(text), size):
            peer.send(chunk(text[at : at + size]))
        peer.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    message = {**WITH_KEY[1], "relay": relay}
    with serving(behave) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        stream = one.stream(
            calls(
                GET,
                ["streaming.request", message],
                ["streaming.read_all", "$1.handle"],
                ["output.emit", "$2.pieces"],
                backwards=True,
            )
        )
        events = list(stream)
    told = seen_by_guest(stream.result.data)
    assert not holds_secret(told)
    assert events
    assert not holds_secret(json.dumps(events))
    assert "host-secret-" in json.dumps(events)


def test_after_a_redirect_nothing_is_sent_on(host: Host) -> None:
    with serving(response()) as thief, serving(response(b"", "307 Go", f"Location: {thief.url()}")) as server:
        one = probe(
            host,
            origin_of(server),
            secrets={"TOKEN": TOKEN},
            allowed_domains=["api.test", origin_of(thief)],
            allowed_private=["127.0.0.1"],
        )
        _, answer = answers(one, GET, WITH_KEY)
        assert answer["status"] == 307
        assert thief.connections == 0


def test_a_request_to_another_domain_keeps_the_placeholder(host: Host) -> None:
    with serving(response()) as server:
        one = probe(
            host,
            allowed_domains=["api.test", "other.test"],
            upstreams={"https://api.test": origin_of(server), "https://other.test": origin_of(server)},
            secrets={"TOKEN": Secret(TOKEN, domains=["api.test"])},
        )
        theft = asking("https://other.test/", headers={"Authorization": "Bearer $0", "X-Api": "api.test"})
        answers(one, GET, ["fetch.request", theft], WITH_KEY)
        stolen, bound = server.requests
    assert TOKEN.encode() not in stolen
    assert b"Bearer host-secret-" in stolen
    assert f"Bearer {TOKEN}".encode() in bound


def test_the_placeholder_of_one_run_is_worthless_in_another(host: Host) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        [first] = answers(one, GET)
        second, _ = answers(one, GET, ["fetch.request", asking(headers={"Authorization": f"Bearer {first['ok']}"})])
        assert first != second
        assert f"Bearer {first['ok']}".encode() in server.requests[0]
        assert TOKEN.encode() not in server.requests[0]


def test_the_errors_of_a_run_hold_no_secret(host: Host) -> None:
    with serving(echoing(TOKEN)) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        words = json.dumps({"exception": "E", "message": f"bad {TOKEN}", "traceback": TOKEN.encode().hex()})
        with pytest.raises(errors.GuestException) as ended:
            one.run(calls(GET, WITH_KEY, ["log.write", "fatal", words], **{"return": 5}))
    assert "host-secret-" in str(ended.value)
    assert not holds_secret(f"{ended.value} {ended.value.as_dict()}")


def test_what_the_host_is_made_of_does_not_show_a_secret(host: Host) -> None:
    one = probe(host, secrets={"TOKEN": Secret(TOKEN)})
    assert TOKEN not in repr((one, one.grant, vars(one), Secret(TOKEN)))


# 2. A fresh sandbox for every operation.


def test_control_a_guest_can_write_a_global(host: Host) -> None:
    assert host.load(guest("remembers")).run({"mine": 1}).data == [{"mine": 1}]


def test_what_a_run_wrote_the_next_one_does_not_find(host: Host) -> None:
    one = host.load(guest("remembers"))
    assert [one.run({"run": number}).data for number in range(5)] == [[{"run": number}] for number in range(5)]


def test_what_runs_write_at_once_they_do_not_find_in_each_other(host: Host) -> None:
    one = host.load(guest("remembers"))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: one.run({"run": number}).data, range(64)))
    assert found == [[{"run": number}] for number in range(64)]


def test_what_a_run_wrote_before_it_was_cancelled_the_next_one_does_not_find(host: Host) -> None:
    one, token = host.load(guest("remembers")), CancelToken()
    token.cancel()
    with pytest.raises(errors.Cancelled):
        one.run({"cancelled": True}, cancel=token)
    assert one.run({"next": True}).data == [{"next": True}]


def test_control_where_the_policy_says_so_a_run_finds_what_its_key_wrote_and_nothing_of_others(host: Host) -> None:
    one = host.load(guest("remembers"), policy=Policy(isolation="key"))
    ran = [one.run({"run": key}, caller={"key": key}) for key in ("a", "b", "a")]
    assert [result.data for result in ran] == [[{"run": "a"}], [{"run": "b"}], [{"run": "a"}, {"run": "a"}]]
    assert [result.execution.meters.earlier_runs for result in ran] == [0, 0, 1]
    begun, *_, ended = ran[-1].execution.decisions
    assert (begun.detail["isolation"], ended.detail["earlier_runs"]) == ("key", 1)
    assert one.run({"no": "key"}).data == [{"no": "key"}]


def test_what_runs_of_many_keys_write_at_once_no_other_key_finds(host: Host) -> None:
    one = host.load(guest("remembers"), policy=Policy(isolation="key"))
    keys = [f"key-{number % 7}" for number in range(140)]
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda key: one.run({"of": key}, caller={"key": key}).data, keys))
    assert all({"of": key} in seen for key, seen in zip(keys, found, strict=True))
    assert all(entry == {"of": key} for key, seen in zip(keys, found, strict=True) for entry in seen)
    assert max(map(len, found)) > 1


def test_what_a_key_wrote_under_another_policy_it_does_not_find(host: Host) -> None:
    for timeout in ("30s", "40s"):
        one = host.load(guest("remembers"), policy=Policy(isolation="key", timeout=timeout))
        assert one.run({"under": timeout}, caller={"key": "a"}).data == [{"under": timeout}]


# 3. Authority is visible: imports ∩ manifest ∩ grant.

MANIFEST = (GUESTS / "probe/manifest.json").read_bytes()


def probe_asking(**changes: Any) -> bytes:
    """The probe with another manifest."""
    wasm, section = guest("probe"), append_section(b"", MANIFEST_SECTION, MANIFEST)
    assert wasm.endswith(section)
    manifest = {**json.loads(MANIFEST), **changes}
    asking = append_section(wasm[: -len(section)], MANIFEST_SECTION, json.dumps(manifest).encode())
    keep_compiled(asking, wasm)
    return asking


def test_what_a_component_does_not_import_does_not_exist_for_it(host: Host) -> None:
    one = host.load(guest("remembers"), policy=Policy(allowed_domains=["api.test"]))
    assert one.imports == ()
    assert one.grant.interfaces == frozenset()


def test_importing_what_the_manifest_does_not_ask_for_is_refused_and_the_hint_is_what_to_add(host: Host) -> None:
    asked = json.loads(MANIFEST)["wasi"]
    with pytest.raises(errors.ManifestError) as refused:
        host.load(probe_asking(wasi={**asked, "secrets": False}))
    assert json.loads("{" + str(refused.value.hint) + "}") == {"wasi": {"secrets": True}}


@pytest.mark.parametrize(
    ("allowed", "url", "allowed_it"),
    [
        pytest.param(["asked.test"], "https://asked.test/", True, id="asked for and granted"),
        pytest.param([], "https://asked.test/", False, id="asked for and not granted"),
        pytest.param(["unasked.test"], "https://unasked.test/", False, id="granted and not asked for"),
        pytest.param(["unsafe_any_domain"], "https://unasked.test/", False, id="all granted and not asked for"),
    ],
)
def test_a_domain_needs_the_manifest_and_the_grant(host: Host, allowed: Any, url: str, allowed_it: bool) -> None:
    with serving(response()) as server:
        origin = url.rstrip("/")
        one = host.load(
            probe_asking(domains=["asked.test"]),
            policy=Policy(allowed_domains=allowed, upstreams={origin: origin_of(server)}),
        )
        [answer] = answers(one, ["fetch.request", asking(url)])
        assert ("status" in answer) is allowed_it
        assert bool(server.requests) is allowed_it
        if not allowed_it:
            assert error_type(answer) == "domain_blocked"


@pytest.mark.parametrize(
    ("name", "handed_over", "granted"),
    [
        pytest.param("TOKEN", ["TOKEN"], True, id="asked for and handed over"),
        pytest.param("TOKEN", [], False, id="asked for and not handed over"),
        pytest.param("UNASKED", ["UNASKED"], False, id="handed over and not asked for"),
    ],
)
def test_a_secret_needs_the_manifest_and_the_grant(host: Host, name: str, handed_over: Any, granted: bool) -> None:
    [answer] = answers(probe(host, secrets=dict.fromkeys(handed_over, TOKEN)), ["secrets.get", name])
    assert ("ok" in answer) is granted


def test_a_denial_names_what_would_allow_it_and_doing_exactly_that_works(host: Host) -> None:
    """From nothing granted to everything needed, by the denials' own words alone."""
    granted: dict[str, list[str]] = {"--secret": [], "--allow-domain": [], "--allow-private": []}
    with serving(response()) as server:
        operation = calls(GET, ["fetch.request", asking(server.url())])
        for _ in range(4):
            one = host.load(
                guest("probe"),
                policy=Policy(allowed_domains=granted["--allow-domain"], allowed_private=granted["--allow-private"]),
                secrets=dict.fromkeys(granted["--secret"], TOKEN),
            )
            result = one.run(operation)
            if not result.execution.refusals:
                break
            assert server.connections == 0
            for refusal in result.execution.refusals:
                option, value = re.findall(r"(--[a-z-]+) (?:with its network, such as )?([^ ,]+)", refusal.remedy)[0]
                granted[option].append(value)
        assert result.data[1]["status"] == 200
        assert result.data[0]["ok"].startswith("host-secret-")
        assert len(server.requests) == 1


# 4. Nothing hangs.

TIMEOUT_S = 0.4
GRACE_S = 0.5


@contextmanager
def eight_busy_threads() -> Iterator[None]:
    stopped = threading.Event()

    def busy() -> None:
        while not stopped.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=busy) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def ends_in_time(run: Callable[[], object]) -> bool:
    """Whether `run` ends by its deadline, with that error. The best of three: a machine may be busy, a hang is one each
    time."""
    for _ in range(3):
        started = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            run()
        if time.monotonic() - started <= TIMEOUT_S + late(GRACE_S):
            return True
    return False


def drip(head: bytes) -> Callable[[Peer], None]:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(head)
        peer.drip(b"1\r\nx\r\n")

    return behave


def drip_head(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    peer.drip(b"x")


FETCH = ["fetch.request", asking()]
READ_STREAM = [["streaming.request", asking()], ["streaming.read_all", "$0.handle"]]
ENDLESS = [
    pytest.param(drip(chunked()), [FETCH], id="a body that drips"),
    pytest.param(drip_head, [FETCH], id="a header that drips"),
    pytest.param(drip(chunked()), READ_STREAM, id="a stream that drips"),
    pytest.param(lambda peer: peer.request() and peer.hang(), [FETCH], id="an answer that never comes"),
    pytest.param(lambda peer: peer.hang(), [FETCH], id="a server that never reads"),
]


@pytest.mark.parametrize("load", [False, True], ids=["alone", "beside eight busy threads"])
@pytest.mark.parametrize(("behave", "listed"), ENDLESS)
def test_an_endless_upstream_ends_with_the_run(
    host: Host, behave: Callable[[Peer], None], listed: Any, load: bool
) -> None:
    with serving(behave) as server:
        one = probe(host, origin_of(server))
        if load:
            with eight_busy_threads():
                assert ends_in_time(lambda: one.run(calls(*listed), timeout=TIMEOUT_S))
        else:
            assert ends_in_time(lambda: one.run(calls(*listed), timeout=TIMEOUT_S))
    assert one.run(calls()).ok


@pytest.mark.parametrize("load", [False, True], ids=["alone", "beside eight busy threads"])
def test_an_endless_guest_ends_with_the_run(host: Host, load: bool) -> None:
    one = probe(host)
    if load:
        with eight_busy_threads():
            assert ends_in_time(lambda: one.run(calls(spin=True), timeout=TIMEOUT_S))
    else:
        assert ends_in_time(lambda: one.run(calls(spin=True), timeout=TIMEOUT_S))
    assert one.run(calls()).ok


def test_a_guest_that_never_stops_calling_the_host_ends_with_the_run(host: Host) -> None:
    one = probe(host)
    with eight_busy_threads():
        assert ends_in_time(lambda: one.run(calls(["config.get"], repeat=10**9), timeout=TIMEOUT_S))


def test_a_name_that_never_resolves_ends_with_the_run(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def never(name: str) -> tuple[IPv4Address, ...]:
        released.wait(60)
        return ()

    monkeypatch.setattr(host, "_egress", Egress(resolver=never))
    one = probe(host)
    try:
        with eight_busy_threads():
            assert ends_in_time(lambda: one.run(calls(FETCH), timeout=TIMEOUT_S))
    finally:
        released.set()


def test_a_server_that_does_not_accept_ends_with_the_run(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        catalyst = probe(host, f"http://127.0.0.1:{listener.getsockname()[1]}")
        with eight_busy_threads():
            assert ends_in_time(lambda: catalyst.run(calls(FETCH), timeout=TIMEOUT_S))
        for one in waiting:
            one.close()


ESCAPES = "%41" * (4 << 20)  # all of it may be the spelling of a secret, so all of it is looked at


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(calls(FETCH), id="in an answer"),
        pytest.param(calls(raw=ESCAPES), id="in the output"),
    ],
)
def test_what_takes_long_to_redact_ends_with_the_run(host: Host, asked: Any) -> None:
    with serving(response(ESCAPES.encode())) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        assert ends_in_time(lambda: one.run(asked, timeout=TIMEOUT_S))


def test_a_consumer_that_never_reads_does_not_keep_a_run_alive(host: Host) -> None:
    stream = probe(host).stream(calls(["output.emit", "1"], repeat=10**9), timeout=TIMEOUT_S)
    with pytest.raises(errors.DeadlineExceeded):
        list(stream)


def test_every_run_that_ended_badly_is_in_the_record() -> None:
    kept = Kept()
    with Host(sink=kept) as host:
        with pytest.raises(errors.DeadlineExceeded):
            probe(host).run(calls(spin=True), timeout=0.2)
        with pytest.raises(errors.GuestTrap):
            probe(host).run(calls(**{"return": 5}))
        with pytest.raises(errors.Denied):
            probe(host).run(calls(GET, **{"return": {"status": 500}}))
    ended = [event.detail for event in kept if event.kind == "run.ended"]
    assert [detail.get("error") or detail["status"] for detail in ended] == ["deadline_exceeded", "guest_trap", 500]
    assert [event.decision for event in kept if event.kind == "secret.use"] == ["deny"]
