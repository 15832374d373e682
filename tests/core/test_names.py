"""Names, parsed once at the edge."""

from __future__ import annotations

import hashlib

import pytest

from host.core.names import Digest, Domain, Reference, SecretName, looks_like_reference
from host.errors import InputError


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


# references


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("c:local.openai", "c:local.openai", id="the short type"),
        pytest.param("catalyst:local.openai", "c:local.openai", id="the long one"),
        pytest.param("catalyst:local.openai:0.1.0", "c:local.openai:0.1.0", id="with a version"),
        pytest.param("c:local.openai@0.1.0", "c:local.openai:0.1.0", id="after an at sign"),
        pytest.param("c local.openai", "c:local.openai", id="with a space for the colon"),
        pytest.param("c:local.openai:latest", "c:local.openai", id="the latest is no version"),
        pytest.param("r:acme.a-1", "r:acme.a-1", id="a reagent"),
        pytest.param(
            "formula:a.b:1.0.0-rc.1+build.5", "f:a.b:1.0.0-rc.1+build.5", id="a formula, a prerelease, a build"
        ),
        pytest.param(f"c:{'a' * 64}.{'b' * 64}", f"c:{'a' * 64}.{'b' * 64}", id="names of 64 characters"),
    ],
)
def test_a_reference_is_read_and_shown_in_its_short_form(text: str, shown: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == shown
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("openai", id="a bare name"),
        pytest.param("local.openai", id="no type"),
        pytest.param("x:local.openai", id="an unknown type"),
        pytest.param("C:local.openai", id="a type in capitals"),
        pytest.param("c:openai", id="no namespace"),
        pytest.param("c:local.open.ai", id="two dots"),
        pytest.param("c:Local.openai", id="a capital letter"),
        pytest.param("c:-local.openai", id="a hyphen first"),
        pytest.param("c:local.openai-", id="a hyphen last"),
        pytest.param("c:local.open_ai", id="an underscore"),
        pytest.param("c:local.öpenai", id="a letter that is not ASCII"),
        pytest.param(f"c:local.{'a' * 65}", id="a name of 65 characters"),
        pytest.param("c:local.openai:", id="an empty version"),
        pytest.param("c:local.openai@", id="an empty version after an at sign"),
        pytest.param("c:local.openai:1.0", id="a version of two numbers"),
        pytest.param("c:local.openai:01.0.0", id="a leading zero"),
        pytest.param("c:local.openai:1.0.0-01", id="a leading zero in a prerelease"),
        pytest.param("c:local.openai:v1.0.0", id="a v"),
        pytest.param("c:local.openai:1.0.0\n", id="a line break"),
        pytest.param("c:local.openai:1.0.0:2", id="more after the version"),
        pytest.param("c:local.openai/../x", id="a path"),
        pytest.param(f"c:local.openai:{'9' * 40}.0.0", id="a number that nobody can hold"),
        pytest.param("c:local.openai:1.0.0-" + "a." * 100 + "a", id="a version without an end"),
    ],
)
def test_anything_else_is_no_reference(text: str) -> None:
    with pytest.raises(InputError):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("c:local.openai", True), ("catalyst:x", True), ("c:nonsense", True), ("f:", True),
        ("./c:local.openai", False), ("openai.wasm", False), ("c", False), ("x:y", False), ("/tmp/c:x", False),
    ],
)  # fmt: skip
def test_what_begins_with_a_type_is_meant_as_a_reference(text: str, meant: bool) -> None:
    assert looks_like_reference(text) is meant


def test_all_versions_of_a_reference_have_one_subject() -> None:
    one = Reference.parse("c:local.openai:0.1.0")
    assert one.subject == one.any_version.subject == "catalyst:local.openai"
    assert one.any_version.at("0.1.0") == one
