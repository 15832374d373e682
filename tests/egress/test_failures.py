"""Every failure becomes one of six kinds, with a message that reveals nothing private."""

import errno
import ssl
import typing

import h11
import pytest

from host.egress import EgressError, Kind
from host.egress.failures import ConnectionLostError, translated

SECRET_PATH = "/home/operator/.keys"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (TimeoutError(), "timeout", "api.test did not answer in the time that the run had left"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "x"),
            "http_error",
            "api.test can't be reached: connection refused",
        ),
        (OSError(errno.ENETUNREACH, "x"), "http_error", "api.test can't be reached: network is unreachable"),
        (OSError(SECRET_PATH), "http_error", "api.test can't be reached: oserror"),
        (ConnectionResetError(), "http_error", "the connection to api.test broke off"),
        (BrokenPipeError(), "http_error", "the connection to api.test broke off"),
        (ssl.SSLEOFError(), "http_error", "the connection to api.test broke off"),
        (ssl.SSLZeroReturnError(), "http_error", "the connection to api.test broke off"),
        (ssl.SSLError(SECRET_PATH), "http_error", "TLS with api.test failed: unknown"),
        (h11.RemoteProtocolError(SECRET_PATH), "http_error", "api.test did not answer in acceptable HTTP/1.1"),
        (h11.LocalProtocolError(SECRET_PATH), "http_error", "the request is not acceptable HTTP/1.1"),
        (ValueError(SECRET_PATH), "http_error", "speaking to api.test failed: ValueError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_foreign_error_has_a_kind_and_words(error, kind, said):
    found = translated(error, "api.test")
    assert (found.kind, found.message) == (kind, said)


def test_an_error_of_ours_stays_what_it_is():
    error = EgressError("dns_error", "x")
    assert translated(error, "api.test") is error


def test_only_a_lost_connection_is_called_lost():
    lost = [
        TimeoutError(),
        ConnectionRefusedError(),
        ConnectionResetError(),
        BrokenPipeError(),
        ssl.SSLEOFError(),
        OSError(),
    ]
    assert [isinstance(translated(error, "h"), ConnectionLostError) for error in lost] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]


def test_the_kinds_are_those_of_the_contract_and_cancelled():
    contract = {"http_error", "dns_error", "private_ip_blocked", "response_too_large", "timeout"}
    assert set(typing.get_args(Kind)) == contract | {"cancelled"}


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("kind", "said"), [("http_error", True), ("dns_error", True), ("timeout", True), ("private_ip_blocked", False)]
)
def test_a_proxy_that_is_not_used_is_named_once_where_there_is_no_connection(monkeypatch, name, kind, said):
    monkeypatch.setenv(name, "http://user:password@proxy.test:3128")
    error = EgressError(kind, "{} is far away", "api.test").outside_a_proxy("api.test")
    assert (error.message.count(name), "proxies are not used here" in error.message) == (int(said), said)
    assert "password" not in error.message
    assert error.naming("example.test").startswith("example.test is far away")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_no_proxy_is_named_for_this_machine(monkeypatch, host):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    error = EgressError("http_error", "{} can't be reached", host)
    assert error.outside_a_proxy(host).message == f"{host} can't be reached"
