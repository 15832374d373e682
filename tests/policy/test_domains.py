"""What an entry of allowed_domains covers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.errors import PolicyError
from host.policy.urls import DomainPattern, Target


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        pytest.param("api.openai.com", "https://api.openai.com/v1", True, id="a name covers itself"),
        pytest.param("api.openai.com", "https://API.OpenAI.com/", True, id="in any case"),
        pytest.param("API.OpenAI.com", "https://api.openai.com/", True, id="in any case of the pattern"),
        pytest.param("api.openai.com", "https://api.openai.com:443/", True, id="with its port written out"),
        pytest.param("api.openai.com", "http://api.openai.com/", False, id="not over plain http"),
        pytest.param("api.openai.com", "http://api.openai.com:443/", False, id="not over plain http on port 443"),
        pytest.param("api.openai.com", "https://api.openai.com:8443/", False, id="not on another port"),
        pytest.param("api.openai.com", "https://openai.com/", False, id="not its parent"),
        pytest.param("openai.com", "https://api.openai.com/", False, id="not what is below it"),
        pytest.param("example.com", "https://example.com.evil.test/", False, id="a prefix is not a domain"),
        pytest.param("*.example.com", "https://a.example.com/", True, id="a wildcard covers a subdomain"),
        pytest.param("*.example.com", "https://a.b.example.com/", True, id="at any depth"),
        pytest.param("*.example.com", "https://example.com/", False, id="a wildcard does not cover the apex"),
        pytest.param("*.example.com", "https://evilexample.com/", False, id="a suffix is not a subdomain"),
        pytest.param(
            "*.example.com", "https://a.example.com.evil.test/", False, id="a name within a name is not a subdomain"
        ),
        pytest.param("*.example.com", "http://a.example.com/", False, id="a wildcard not over plain http"),
        pytest.param("*.example.com:8443", "https://a.example.com:8443/", True, id="a wildcard with a port"),
        pytest.param("*.example.com:8443", "https://a.example.com/", False, id="a wildcard with a port has no other"),
        pytest.param("host:8443", "https://host:8443/", True, id="a port"),
        pytest.param("http://localhost:8080", "http://localhost:8080/", True, id="plain http where it is asked for"),
        pytest.param("http://localhost:8080", "https://localhost:8080/", False, id="and then nothing else"),
        pytest.param("http://localhost", "http://localhost/", True, id="plain http has port 80"),
        pytest.param("10.0.0.1", "https://10.0.0.1/", True, id="an IPv4 address"),
        pytest.param("10.0.0.1", "https://[::ffff:10.0.0.1]/", False, id="an IPv4 address not in its mapped form"),
        pytest.param("[::1]:8080", "https://[0:0::1]:8080/", True, id="an IPv6 address however written"),
        pytest.param("unsafe_any_domain", "https://anything.test/", True, id="any domain"),
        pytest.param("unsafe_any_domain", "http://anything.test/", False, id="any domain, but over https"),
        pytest.param("unsafe_any_domain", "https://anything.test:8443/", False, id="any domain, but on its port"),
        pytest.param("unsafe_any_domain", "https://1.2.3.4/", False, id="any domain is no address"),
        pytest.param("http://unsafe_any_domain:8080", "http://anything.test:8080/", True, id="any domain over http"),
    ],
)
def test_what_a_pattern_covers(pattern, url, expected):
    assert DomainPattern.parse(pattern).matches(Target.parse(url)) is expected


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "*:443", "http://*", "*.com", "*.com:8443", "http://*.com", "*.localhost", "*.*.example.com", "*.", "*..com",
        "a.*.com", "a*.example.com", "*example.com", "*.1.2.3.4", "*.[::1]", "*.unsafe_any_domain", "api.openai.com/",
        "api.openai.com/v1", "https://api.openai.com/v1", "user@api.openai.com", "api.openai.com.", "api openai.com",
        "api.openai.com:0", "api.openai.com:99999", "api.openai.com:", "ftp://a.test", "bücher.example", "2130706433", "0x7f.1",
        "::1", "[::1", "[fe80::1%eth0]", "https://", "a.test\n", "a.test?x", "a.test#x", "a\\b.test",
    ],
)  # fmt: skip
def test_what_is_no_pattern(text):
    with pytest.raises(PolicyError) as caught:
        DomainPattern.parse(text)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["*", "*.com", "*:443", "http://*"])
def test_a_pattern_over_everything_says_how_to_ask_for_it(text):
    with pytest.raises(PolicyError) as caught:
        DomainPattern.parse(text)
    assert "unsafe_any_domain" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "api.openai.com",
        "*.example.com",
        "host:8443",
        "http://localhost",
        "http://localhost:8080",
        "10.0.0.1",
        "[::1]:8080",
        "http://[::1]:8080",
        "*.example.com:8443",
        "unsafe_any_domain",
        "http://unsafe_any_domain:8080",
    ],
)
def test_a_pattern_is_written_as_it_was_read(text):
    assert str(DomainPattern.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        ("https://a.test", "a.test"),
        ("https://a.test:443", "a.test"),
        ("http://a.test:80", "http://a.test"),
        ("[0:0::1]", "[::1]"),
    ],
)
def test_a_pattern_is_written_in_the_shortest_way(text, shortest):
    assert str(DomainPattern.parse(text)) == shortest


LABEL = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@given(
    st.lists(LABEL, min_size=2, max_size=4).map(".".join),
    st.lists(LABEL, max_size=3),
    st.sampled_from(["", "http://"]),
    st.integers(1, 65_535),
)
def test_a_wildcard_covers_exactly_what_has_more_labels(suffix, before, scheme, port):
    pattern = DomainPattern.parse(f"{scheme}*.{suffix}:{port}")
    assert DomainPattern.parse(str(pattern)) == pattern
    target = Target.parse(f"{scheme or 'https://'}{'.'.join([*before, suffix])}:{port}/")
    assert pattern.matches(target) is bool(before)
