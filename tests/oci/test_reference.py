"""References to registries."""

from __future__ import annotations

import pytest

from host.core.names import looks_like_oci
from host.errors import InputError
from host.oci.reference import OciReference, is_loopback

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        pytest.param("oci://ghcr.io/acme/openai:0.1.0", "ghcr.io", "acme/openai", "0.1.0", "", id="a tag"),
        pytest.param("oci://ghcr.io/acme/openai", "ghcr.io", "acme/openai", "", "", id="neither tag nor digest"),
        pytest.param(f"oci://ghcr.io/acme/openai@{D}", "ghcr.io", "acme/openai", "", D, id="a digest"),
        pytest.param(f"oci://ghcr.io/a/b:v1@{D}", "ghcr.io", "a/b", "v1", D, id="a tag and a digest"),
        pytest.param("oci://localhost:5000/a", "localhost:5000", "a", "", "", id="a port is not a tag"),
        pytest.param("oci://127.0.0.1:5000/a:5000", "127.0.0.1:5000", "a", "5000", "", id="a port and a tag"),
        pytest.param("oci://[::1]:5000/a:b", "[::1]:5000", "a", "b", "", id="an IPv6 address with a port"),
        pytest.param("oci://[2001:db8::1]/a", "[2001:db8::1]", "a", "", "", id="an IPv6 address"),
        pytest.param("oci://r.test/a__b/c-d.e_f", "r.test", "a__b/c-d.e_f", "", "", id="every separator of names"),
        pytest.param("oci://r.test/a:_X.y-Z", "r.test", "a", "_X.y-Z", "", id="a tag may have capitals"),
    ],
)
def test_a_reference_is_read_and_written_back(text, registry, repository, tag, digest):
    parsed = OciReference.parse(text)
    assert (parsed.registry, parsed.repository, parsed.tag, str(parsed.digest or "")) == (
        registry,
        repository,
        tag,
        digest,
    )
    assert str(parsed) == text
    assert OciReference.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ghcr.io/acme/openai", id="no scheme"),
        pytest.param("https://ghcr.io/acme/openai", id="another scheme"),
        pytest.param("oci://", id="nothing"),
        pytest.param("oci://ghcr.io", id="no repository"),
        pytest.param("oci://ghcr.io/", id="an empty repository"),
        pytest.param("oci:///acme/openai", id="no registry"),
        pytest.param("oci://ghcr.io/../v2/secret", id="dots that climb"),
        pytest.param("oci://ghcr.io/acme/../other", id="dots that climb in the middle"),
        pytest.param("oci://ghcr.io/acme//openai", id="an empty name"),
        pytest.param("oci://ghcr.io/acme/", id="a slash at the end"),
        pytest.param("oci://ghcr.io/Acme/openai", id="capitals in a name"),
        pytest.param("oci://ghcr.io/acme/open%61i", id="percent escapes"),
        pytest.param("oci://ghcr.io/acme/openai?x=1", id="a query"),
        pytest.param("oci://ghcr.io/acme/openai#x", id="a fragment"),
        pytest.param("oci://user:pw@ghcr.io/acme/openai", id="a user and a password"),
        pytest.param("oci://ghcr.io/acme/openai:", id="an empty tag"),
        pytest.param("oci://ghcr.io/acme/openai:.hidden", id="a tag that begins with a dot"),
        pytest.param("oci://ghcr.io/acme/openai:" + "a" * 129, id="a tag of 129"),
        pytest.param("oci://ghcr.io/acme/openai:v1\n", id="a line break at the end"),
        pytest.param("oci://ghcr.io/acme/openai@sha256:abc", id="a short digest"),
        pytest.param("oci://ghcr.io/acme/openai@sha512:" + "a" * 128, id="another algorithm"),
        pytest.param(f"oci://ghcr.io/a@{D}@{D}", id="two digests"),
        pytest.param("oci://ghcr.io:0/a", id="port 0"),
        pytest.param("oci://ghcr.io:65536/a", id="a port that is none"),
        pytest.param("oci://ghcr.io:/a", id="an empty port"),
        pytest.param("oci://[::1]5000/a", id="no colon after an address"),
        pytest.param("oci://[::1/a", id="a bracket that is not closed"),
        pytest.param("oci://[fe80::1%25eth0]/a", id="an IPv6 zone"),
        pytest.param("oci://0x7f.1/a", id="a number that resolvers take for an address"),
        pytest.param("oci://2130706433/a", id="an address in one number"),
        pytest.param("oci://127.1/a", id="an address that is cut short"),
        pytest.param("oci://ghcr.io\\@evil.test/a", id="a backslash"),
        pytest.param("oci://r.test/" + "a" * 250, id="longer than registries take"),
    ],
)
def test_what_is_no_place_in_a_registry_is_refused(text):
    with pytest.raises(InputError) as caught:
        OciReference.parse(text)
    assert caught.value.hint


def test_the_digest_decides_over_the_tag():
    assert OciReference.parse(f"oci://r.test/a:v1@{D}").wanted == D
    assert OciReference.parse("oci://r.test/a:v1").wanted == "v1"
    assert OciReference.parse("oci://r.test/a").wanted == "latest"


@pytest.mark.parametrize(
    ("registry", "scheme"),
    [
        ("localhost:5000", "http"),
        ("127.9.9.9", "http"),
        ("[::1]:5000", "http"),
        ("localhost.evil.test", "https"),
        ("127.0.0.1.evil.test", "https"),
        ("10.0.0.1:5000", "https"),
        ("[::ffff:127.0.0.1]", "https"),
        ("registry.test", "https"),
    ],
)
def test_plain_http_is_for_this_machine(registry, scheme):
    reference = OciReference.parse(f"oci://{registry}/a/b")
    assert reference.base() == f"{scheme}://{registry}/v2/a/b"
    assert reference.base(plain_http=True) == f"http://{registry}/v2/a/b"


def test_docker_hub_answers_elsewhere():
    assert OciReference.parse("oci://docker.io/acme/a").base() == "https://registry-1.docker.io/v2/acme/a"


def test_loopback_is_told_with_brackets_or_without():
    assert is_loopback("[::1]")
    assert is_loopback("::1")
    assert not is_loopback("::2")


def test_only_the_scheme_makes_an_oci_reference():
    assert looks_like_oci("oci://x")
    assert not looks_like_oci("c:local.openai")
