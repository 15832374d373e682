"""Lookups on few threads, which a caller can abandon."""

import socket
import threading
from ipaddress import ip_address

import pytest

from host.core.names import Domain
from host.egress.dns import MAX_THREADS, Lookups, system_resolver

NAME = Domain.parse("api.test")


def test_the_system_says_each_address_once(monkeypatch):
    asked = []

    def getaddrinfo(host, port, **options):
        asked.append((host, options))
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [
            (*stream, ("192.0.2.1", 0)),
            (*stream, ("192.0.2.1", 0)),
            (socket.AF_INET6, 1, 6, "", ("fe80::1%lo", 0, 0, 1)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert system_resolver(NAME) == (ip_address("192.0.2.1"), ip_address("fe80::1%lo"))
    assert asked == [(b"api.test", {"type": socket.SOCK_STREAM})]


def test_localhost_is_loopback():
    assert all(address.is_loopback for address in system_resolver(Domain.parse("localhost")))


@pytest.mark.parametrize("error", [OSError(), UnicodeError(), RecursionError(), ValueError()])
def test_whatever_a_resolver_raises_is_no_address(error):
    def resolver(name):
        raise error

    lookup = Lookups(resolver).start(NAME)
    assert lookup.done.wait(10)
    assert lookup.addresses == ()


def test_names_that_hang_use_no_more_threads_than_allowed_and_the_others_wait_their_turn():
    release, running = threading.Event(), threading.Semaphore(0)

    def resolver(name):
        running.release()
        release.wait(10)
        return (ip_address("192.0.2.1"),)

    lookups = Lookups(resolver)
    started = [lookups.start(NAME) for _ in range(MAX_THREADS + 3)]
    for _ in range(MAX_THREADS):
        assert running.acquire(timeout=10)
    assert not running.acquire(timeout=0.1)
    release.set()
    assert all(lookup.done.wait(10) and lookup.addresses for lookup in started)


def test_an_abandoned_lookup_is_skipped():
    release, asked = threading.Event(), []

    def resolver(name):
        asked.append(str(name))
        release.wait(10)
        return ()

    lookups = Lookups(resolver)
    blocked = [lookups.start(NAME) for _ in range(MAX_THREADS)]
    abandoned = lookups.start(Domain.parse("abandoned.test"))
    last = lookups.start(Domain.parse("last.test"))
    abandoned.done.set()
    release.set()
    assert all(lookup.done.wait(10) for lookup in (*blocked, last))
    assert "abandoned.test" not in asked
