"""`host secret set` for tokens that expire, as people type it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Ran

NAME = "GATEWAY_TOKEN"
CLIENT_SECRET = "s3cret-of-the-client-0123456789"
ENDPOINT = ("--oauth", "https://login.test/token", "--client-id", "host")

pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def secret(program: Callable[..., Ran]) -> Callable[..., Ran]:
    """`secret("set", …)` runs `host secret set …`; what it says never has the client's secret."""

    def run(*arguments: str, status: int = 0, **more: Any) -> Ran:
        ran = program("secret", *arguments, **more)
        assert ran.status == status, ran.err
        assert CLIENT_SECRET not in ran.out + ran.err
        return ran

    return run


def test_a_token_endpoint_is_kept_in_place_of_a_value(secret: Callable[..., Ran]) -> None:
    kept = secret("set", NAME, *ENDPOINT, "--scope", "a", "--param", "audience=b", stdin=CLIENT_SECRET)
    assert f"{NAME} is kept: tokens of https://login.test/token, by client credentials of the client host" in kept.err
    assert f"next: host secret grant REF {NAME}" in kept.err
    assert NAME in secret("list").out
    assert secret("get", NAME).out == "tokens of https://login.test/token, by client credentials of the client host\n"
    assert secret("which", NAME).out.startswith("the store: tokens of https://login.test/token")
    assert "no value of its own" in secret("get", NAME, "--reveal", "--yes", status=2).err
    assert secret("delete", NAME, "--yes").err


def test_a_refresh_token_needs_no_secret_of_the_client(secret: Callable[..., Ran]) -> None:
    kept = secret("set", NAME, *ENDPOINT, "--refresh-token", "-", "--json", stdin=CLIENT_SECRET)
    shown = "tokens of https://login.test/token, by a refresh token of the client host"
    assert json.loads(kept.out) == {"name": NAME, "source": shown, "used_by": []}


def test_a_program_is_found_when_it_is_set(secret: Callable[..., Ran]) -> None:
    kept = secret("set", NAME, "--exec", f"echo --key {CLIENT_SECRET}", "--lifetime", "1h")
    assert f"{NAME} is kept: tokens that the program echo prints" in kept.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(("--oauth", "https://login.test/t"), "--client-id ID", id="no client"),
        pytest.param(("--client-id", "host"), "--client-id goes with --oauth URL", id="no endpoint"),
        pytest.param(("--lifetime", "5m"), "--lifetime goes with --exec COMMAND", id="no program"),
        pytest.param((*ENDPOINT, "--exec", "echo"), "--oauth does not go with --exec", id="both"),
        pytest.param((*ENDPOINT, "--from", "-"), "take the place of a value", id="a value too"),
        pytest.param((*ENDPOINT, "--param", "audience"), "has no = in it", id="half a parameter"),
        pytest.param((*ENDPOINT, "--param", "scope=a"), "scope is no parameter of yours", id="a parameter that is set"),
        pytest.param(("--oauth", "http://login.test/t", "--client-id", "a"), "over https", id="plain http"),
        pytest.param(("--exec", "no-such-program-of-a-test"), "there is no program", id="no such program"),
        pytest.param(("--exec", "echo 'a"), "a quotation mark is not closed", id="half a word"),
        pytest.param(("--exec", "echo", "--lifetime", "0s"), "--lifetime", id="no time"),
    ],
)
def test_a_slip_is_answered_with_the_option(secret: Callable[..., Ran], options: tuple[str, ...], says: str) -> None:
    ran = secret("set", NAME, *options, status=2, stdin=CLIENT_SECRET)
    assert says in ran.err
