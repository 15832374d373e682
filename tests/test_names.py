"""Names, parsed once at the edge."""

from __future__ import annotations

import hashlib

import pytest

from host.errors import InputError
from host.names import Digest, Domain, SecretName


def test_a_digest_is_of_its_content() -> None:
    digest = Digest.of(b"content")
    assert digest.hex == hashlib.sha256(b"content").hexdigest()
    assert Digest.parse(str(digest)) == digest
    assert digest.hex.startswith(digest.short)
    assert len(digest.short) == 12


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 64,
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha512:" + "a" * 64,
        " sha256:" + "a" * 64,
        "sha256:" + "a" * 64 + "\n",
    ],
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(InputError):
        Digest.parse(text)


@pytest.mark.parametrize("text", ["K", "OPENAI_API_KEY", "_x", "a.b-c", "K" * 128])
def test_the_name_of_a_secret(text: str) -> None:
    assert str(SecretName.parse(text)) == text


@pytest.mark.parametrize("text", ["", "1K", "-K", ".K", "K K", "K\n", "K/../L", "KÖ", "K" * 129, "K=V", None, 5])
def test_what_is_no_name_of_a_secret(text: str) -> None:
    with pytest.raises(InputError):
        SecretName.parse(text)


def test_an_error_shows_no_more_than_the_beginning_of_a_long_name() -> None:
    with pytest.raises(InputError) as error:
        SecretName.parse("x" * 100_000)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("text", ["a", "api.openai.com", "localhost", "xn--bcher-kva.example", "a_b.c-d.e1", "1a.b2"])
def test_a_domain(text: str) -> None:
    assert str(Domain.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("API.openai.com", id="capitals"),
        pytest.param("a.test.", id="a trailing dot"),
        pytest.param(".a.test", id="a leading dot"),
        pytest.param("a..test", id="an empty label"),
        pytest.param("-a.test", id="a leading hyphen"),
        pytest.param("a-.test", id="a trailing hyphen"),
        pytest.param("bücher.example", id="Unicode"),
        pytest.param("a\u3002test", id="an ideographic dot"),
        pytest.param("a.test/", id="a path"),
        pytest.param("a.test:80", id="a port"),
        pytest.param("https://a.test", id="a scheme"),
        pytest.param("user@a.test", id="userinfo"),
        pytest.param("*.a.test", id="a wildcard"),
        pytest.param("a.test\n", id="a line break"),
        pytest.param("127.0.0.1", id="an address"),
        pytest.param("0x7f.1", id="an address in other numbers"),
        pytest.param("a.0x7f", id="a hexadecimal last label"),
        pytest.param("2130706433", id="an address as one number"),
        pytest.param("a" * 64 + ".test", id="a label of 64 letters"),
        pytest.param(".".join(["a" * 60] * 5), id="a name of more than 253 letters"),
    ],
)
def test_what_is_no_domain(text: str) -> None:
    with pytest.raises(InputError):
        Domain.parse(text)
