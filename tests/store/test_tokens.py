"""Tokens that expire: what issuers and programs answer, when a token is due, and what is sealed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from host.core.names import SecretName
from host.errors import InputError
from host.runtime.workspace import Workspace
from host.secrets.value import OPERATOR, SecretValue
from host.store.vault.tokens import (
    MAX_LIFE_S,
    UNKNOWN_LIFE_S,
    CommandSource,
    OAuthSource,
    Token,
    TokenAnswerError,
    digest_of,
    read_printed,
    read_source,
    read_token_answer,
    write_source,
)

NAME = SecretName("GATEWAY_TOKEN")
USER = "c:local.openai"
CLIENT_SECRET = "s3cret-of-the-client-0123456789"
REFRESH = "r3fresh-of-the-operator-0123456789"
JSON = "application/json"


def oauth(**fields: Any) -> OAuthSource:
    given = {"client_id": "host", "client_secret": SecretValue(CLIENT_SECRET), **fields}
    return OAuthSource(token_url=given.pop("token_url", "https://login.test/token"), **given)


def answer(**fields: Any) -> bytes:
    return json.dumps({"access_token": "t0ken-0123456789", "token_type": "Bearer", **fields}).encode()


def test_client_credentials_are_asked_for_as_rfc_6749_has_it() -> None:
    source = oauth(
        client_id="a b", client_secret=SecretValue("x:y/z"), scope="r w", more={"audience": "https://a.test"}
    )
    headers, body = source.request()
    assert dict(headers)["Authorization"] == "Basic YStiOnglM0F5JTJGeg=="  # a+b:x%3Ay%2Fz
    assert parse_qs(body.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["r w"],
        "audience": ["https://a.test"],
    }


def test_a_refresh_token_of_a_client_without_a_secret_is_asked_with_its_id() -> None:
    headers, body = oauth(client_secret=None, refresh_token=SecretValue(REFRESH)).request()
    assert "Authorization" not in dict(headers)
    assert parse_qs(body.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": [REFRESH],
        "client_id": ["host"],
    }


def test_credentials_may_stand_in_the_body() -> None:
    headers, body = oauth(credentials="body").request()
    assert "Authorization" not in dict(headers)
    assert parse_qs(body.decode())["client_secret"] == [CLIENT_SECRET]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"token_url": "http://login.test/token"}, "token_url", id="plain http"),
        pytest.param({"token_url": "https://u:p@login.test"}, "token_url", id="a password in the URL"),
        pytest.param({"token_url": "login.test"}, "token_url", id="no URL"),
        pytest.param({"client_id": ""}, "client_id", id="no client"),
        pytest.param({"client_secret": None}, "client_secret", id="nothing to show"),
        pytest.param({"private": ("any",)}, "allowed_private", id="no network"),
    ],
)
def test_a_source_that_cannot_be_asked_is_an_error_that_names_the_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        oauth(**fields)
    assert caught.value.field == field
    assert CLIENT_SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "life_s"),
    [
        pytest.param(3600, 3600, id="a number"),
        pytest.param("3600", 3600, id="a number in a text"),
        pytest.param(0.5, 0.5, id="a fraction"),
        pytest.param(1e9, MAX_LIFE_S, id="thirty years count as a day"),
        pytest.param(10**400, MAX_LIFE_S, id="and so does what no float can hold"),
        pytest.param(None, UNKNOWN_LIFE_S, id="null"),
    ],
)
def test_the_time_of_a_token(given: object, life_s: float) -> None:
    assert read_token_answer(200, JSON, answer(expires_in=given)).life_s == life_s


def test_a_token_without_a_time_is_valid_for_minutes() -> None:
    assert read_token_answer(200, JSON, answer()).life_s == UNKNOWN_LIFE_S


@pytest.mark.parametrize("given", [0, -1, "x", "", "-5", True, [], "9" * 30])
def test_a_time_that_is_none_is_no_token(given: object) -> None:
    with pytest.raises(TokenAnswerError):
        read_token_answer(200, JSON, answer(expires_in=given))


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        pytest.param(302, b"", "a redirect is not followed", id="a redirect"),
        pytest.param(200, b"<html>", "a page", id="a page"),
        pytest.param(200, b"[]", "no JSON object", id="a list"),
        pytest.param(200, b'{"access_token": "a", "access_token": "b"}', "no JSON object", id="a name twice"),
        pytest.param(200, b"{}", "no token", id="no token"),
        pytest.param(200, answer(access_token="a b\r\nX: y"), "no token", id="a line break in a token"),
        pytest.param(200, answer(access_token="x" * 20_000), "no token", id="a token without end"),
        pytest.param(200, answer(access_token=5), "no token", id="a number for a token"),
        pytest.param(200, answer(token_type="mac"), "Bearer", id="another type"),
        pytest.param(200, answer(refresh_token=""), "no token", id="an empty refresh token"),
        pytest.param(400, b'{"error": "invalid_grant"}', "400: invalid_grant", id="a known reason"),
        pytest.param(401, b"", "answered 401", id="no body"),
    ],
)
def test_what_is_no_token_is_an_error_that_says_why(status: int, body: bytes, says: str) -> None:
    with pytest.raises(TokenAnswerError, match=says):
        read_token_answer(status, "text/html" if body.startswith(b"<") else JSON, body)


def test_attack_an_error_of_the_endpoint_that_echoes_what_was_sent_is_not_shown() -> None:
    echo = {"error": CLIENT_SECRET, "error_description": REFRESH}
    with pytest.raises(TokenAnswerError) as caught:
        read_token_answer(400, JSON, json.dumps(echo).encode())
    assert CLIENT_SECRET not in str(caught.value)
    assert REFRESH not in str(caught.value)


@pytest.mark.parametrize(
    ("printed", "life_s"),
    [
        pytest.param("t0ken\n", 60, id="a token alone"),
        pytest.param('{"access_token": "t0ken", "expires_in": 90}', 90, id="an answer of OAuth"),
        pytest.param('{"accessToken": "t0ken", "expiresOn": "2024-01-01 10:00:00", "expires_on": 1150}', 150, id="az"),
        pytest.param('{"token": "t0ken", "expiry": "1970-01-01T00:18:20Z"}', 100, id="a date"),
        pytest.param(
            '{"kind": "ExecCredential", "status": {"token": "t0ken", "expirationTimestamp": "1970-01-01T00:17:40Z"}}',
            60,
            id="Kubernetes",
        ),
        pytest.param('{"token": "t0ken"}', 60, id="no end"),
    ],
)
def test_what_programs_print(printed: str, life_s: float) -> None:
    issued = read_printed(printed.encode(), otherwise_s=60, now=1_000)
    assert (issued.value.reveal(), issued.life_s) == ("t0ken", life_s)


@pytest.mark.parametrize(
    "printed",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"two words\nand lines", id="lines"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"{", id="half of JSON"),
        pytest.param(b'{"token": "t", "expiry": "soon"}', id="a word for a date"),
        pytest.param(b'{"token": "t", "expiry": "1970-01-01T00:18:20"}', id="a date without a zone"),
        pytest.param(b'{"token": "t", "expires_on": 999}', id="one that has ended"),
        pytest.param(b'{"token": "t", "expires_on": true}', id="true for a date"),
        pytest.param(b'{"token": "t", "expires_on": 1' + b"0" * 400 + b"}", id="a date that no float can hold"),
    ],
)
def test_what_is_printed_and_is_no_token_is_an_error(printed: bytes) -> None:
    with pytest.raises(TokenAnswerError):
        read_printed(printed, otherwise_s=60, now=1_000)


@pytest.mark.parametrize(
    ("life_s", "due_after", "used_until"),
    [
        pytest.param(3600, 3300, 3595, id="an hour: five minutes before its end"),
        pytest.param(100, 80, 95, id="a minute and a half: in its last fifth"),
        pytest.param(10, 8, 9, id="seconds"),
    ],
)
def test_a_token_is_due_before_its_end_and_used_until_shortly_before(
    life_s: float, due_after: float, used_until: float
) -> None:
    token = Token(SecretValue("t"), 1_000, 1_000 + life_s, "")
    for after in (0.0, due_after - 0.1, due_after, used_until - 0.1, used_until, life_s):
        now = 1_000 + after
        assert token.is_due(now) is (after >= due_after)
        assert token.is_usable(now) is (after < used_until)


def test_a_clock_that_was_put_back_makes_no_token_valid_for_ever() -> None:
    token = Token(SecretValue("t"), 1_000_000, 1_003_600, "")
    assert not token.is_usable(500_000)


SOURCES = [
    oauth(refresh_token=SecretValue(REFRESH), scope="a", more={"audience": "b"}, private=("10.0.0.0/8",)),
    oauth(),
    CommandSource(argv=("/bin/echo", "a b"), environment=("HOME",), life_s=60.0),
]


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_is_read_as_it_was_written_and_prints_no_secret(source: Any) -> None:
    assert read_source(write_source(source)) == source
    for shown in (str(source), repr(source)):
        assert CLIENT_SECRET not in shown
        assert REFRESH not in shown


def test_a_command_shows_its_program_and_no_argument() -> None:
    assert str(CommandSource(argv=("/usr/bin/fetch", "--key", CLIENT_SECRET))) == "tokens that the program fetch prints"


# kept


def test_a_source_takes_the_place_of_a_value_and_a_value_that_of_a_source(workspace: Workspace) -> None:
    vault = workspace.vault
    vault.set(OPERATOR, NAME, SecretValue("a value-0123456789"))
    vault.set_source(NAME, oauth())
    assert (vault.get(OPERATOR, NAME), vault.source(NAME)) == (None, oauth())
    [found] = workspace.sources.which(NAME)
    assert (found.value, found.source, found.place) == (None, oauth(), "store")
    vault.set(OPERATOR, NAME, SecretValue("a value-0123456789"))
    assert vault.source(NAME) is None
    assert [str(name) for name, _ in vault.names(OPERATOR)] == [str(NAME)]


def test_attack_no_value_that_is_set_counts_as_a_source(workspace: Workspace) -> None:
    """A key with the right to set secrets would run programs."""
    document = write_source(CommandSource(argv=("/bin/sh", "-c", "id")))
    workspace.vault.set(OPERATOR, NAME, SecretValue(document))
    assert workspace.vault.source(NAME) is None
    with pytest.raises(InputError):
        SecretValue(f"\0{document}")


def test_a_token_and_the_refresh_token_that_came_with_it_are_kept_in_one_change_and_on_record(
    workspace: Workspace,
) -> None:
    source = workspace.vault.set_source(NAME, oauth(refresh_token=SecretValue(REFRESH)))
    token = Token(SecretValue("t0ken-0123456789"), 1_000, 4_600, digest_of(source))
    renewed = source.renewed(read_token_answer(200, JSON, answer(refresh_token="n3xt-0123456789")))
    assert digest_of(renewed) == digest_of(source)
    workspace.vault.keep_token(NAME, USER, token, renewed)
    assert workspace.vault.token(NAME, USER) == token
    assert workspace.vault.token(NAME, "c:local.other") is None
    assert workspace.vault.source(NAME) == renewed
    with workspace.database.reading() as connection:
        rows = list(connection.execute("SELECT kind, detail FROM audit ORDER BY seq"))
    assert [row.kind for row in rows][-2:] == ["secret.set", "secret.refreshed"]
    assert json.loads(rows[-1].detail)["reference"] == USER
    told = str(rows)
    assert not any(secret in told for secret in ("t0ken", "n3xt", REFRESH, CLIENT_SECRET))


def test_a_token_of_a_source_that_was_set_anew_is_not_kept(workspace: Workspace) -> None:
    workspace.vault.set_source(NAME, oauth())
    token = Token(SecretValue("t0ken-0123456789"), 1_000, 4_600, digest_of(oauth(scope="other")))
    workspace.vault.keep_token(NAME, USER, token, oauth(scope="other"))
    assert workspace.vault.token(NAME, USER) is None
    assert workspace.vault.source(NAME) == oauth()


def test_attack_a_renewal_that_was_under_way_puts_back_no_account_that_the_operator_replaced(
    workspace: Workspace,
) -> None:
    """A renewal takes up to 20 s: only the refresh token may be another when it ends."""
    vault = workspace.vault
    before = vault.set_source(NAME, oauth(refresh_token=SecretValue("refresh-of-A-0123456789")))
    now = oauth(refresh_token=SecretValue("refresh-of-B-0123456789"))
    vault.set_source(NAME, now)
    issued = read_token_answer(200, JSON, answer(refresh_token="rotated-of-A-0123456789"))
    vault.keep_token(NAME, USER, Token(issued.value, 1_000, 4_600, digest_of(before)), before.renewed(issued))
    assert (vault.source(NAME), vault.token(NAME, USER)) == (now, None)


def test_what_was_kept_before_sources_had_ids_can_be_read() -> None:
    document = json.loads(write_source(oauth()))
    del document["set_id"]
    assert read_source(json.dumps(document)) == oauth()


def test_new_keys_seal_sources_and_tokens_anew(workspace: Workspace) -> None:
    source = workspace.vault.set_source(NAME, oauth(refresh_token=SecretValue(REFRESH)))
    token = Token(SecretValue("t0ken-0123456789"), 1_000, 4_600, digest_of(source))
    workspace.vault.keep_token(NAME, USER, token, source)
    assert workspace.vault.rotate(new_master=True).secrets == 2
    assert (workspace.vault.source(NAME), workspace.vault.token(NAME, USER)) == (source, token)


def test_nothing_of_it_is_readable_in_the_state_directory(workspace: Workspace) -> None:
    workspace.vault.set_source(NAME, oauth(refresh_token=SecretValue(REFRESH)))
    kept = b"".join(file.read_bytes() for file in workspace.state_dir.rglob("*") if file.is_file())
    assert REFRESH.encode() not in kept
    assert CLIENT_SECRET.encode() not in kept
