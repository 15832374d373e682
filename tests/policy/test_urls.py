"""URLs, as a table: what is accepted and how it is read, and what is refused."""

import copy
import dataclasses
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from host.core.names import Domain
from host.policy.urls import Origin, Target, UrlError


@pytest.mark.parametrize(
    ("text", "origin", "path_query"),
    [
        pytest.param("https://api.openai.com/v1/models", "https://api.openai.com", b"/v1/models", id="a plain URL"),
        pytest.param("https://a.test", "https://a.test", b"/", id="no path is the root"),
        pytest.param("https://a.test?q=1", "https://a.test", b"/?q=1", id="a query without a path"),
        pytest.param("https://a.test/a?b=c#d", "https://a.test", b"/a?b=c", id="a fragment is not sent"),
        pytest.param("https://a.test#/x@evil.test", "https://a.test", b"/", id="an @ in a fragment is no user name"),
        pytest.param(
            "https://a.test/?u=@evil.test", "https://a.test", b"/?u=@evil.test", id="an @ in a query is no user name"
        ),
        pytest.param("HTTPS://API.Test/A", "https://api.test", b"/A", id="scheme and host in any case"),
        pytest.param("https://a.test:443/", "https://a.test", b"/", id="a default port is left out"),
        pytest.param("http://a.test:443/", "http://a.test:443", b"/", id="443 is not the default of http"),
        pytest.param("http://a.test:80/", "http://a.test", b"/", id="80 is the default of http"),
        pytest.param("https://a.test:65535/", "https://a.test:65535", b"/", id="the last port"),
        pytest.param("http://127.0.0.1:8080/", "http://127.0.0.1:8080", b"/", id="an IPv4 address"),
        pytest.param("http://[::1]:8080/", "http://[::1]:8080", b"/", id="an IPv6 address"),
        pytest.param("http://[0:0:0:0:0:0:0:1]/", "http://[::1]", b"/", id="an IPv6 address at length"),
        pytest.param("http://[::ffff:1.2.3.4]/", "http://[::ffff:102:304]", b"/", id="a mapped address stays one"),
        pytest.param("https://a.test/%2F%c3%a9", "https://a.test", b"/%2F%c3%a9", id="escapes stay as they are"),
        pytest.param(
            "https://a.test/é?ü=€", "https://a.test", b"/%C3%A9?%C3%BC=%E2%82%AC", id="Unicode is escaped as UTF-8"
        ),
        pytest.param(
            "https://a.test/../../etc", "https://a.test", b"/../../etc", id="dots stay, the server reads them"
        ),
        pytest.param("https://a.test//evil.test/", "https://a.test", b"//evil.test/", id="two slashes are a path"),
        pytest.param(
            "https://xn--bcher-kva.example/", "https://xn--bcher-kva.example", b"/", id="an international name"
        ),
        pytest.param("https://a_b.test/", "https://a_b.test", b"/", id="an underscore"),
        pytest.param("http://localhost/", "http://localhost", b"/", id="a name of one label"),
        pytest.param("https://1.2.3.4.test/", "https://1.2.3.4.test", b"/", id="numbers before a name"),
    ],
)
def test_a_url_is_read_in_one_way(text, origin, path_query):
    target = Target.parse(text)
    assert (target.origin, target.path_query) == (origin, path_query)
    assert Target.parse(target.origin + target.path_query.decode()) == target


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("/v1/models", id="a path"),
        pytest.param("//a.test/", id="no scheme"),
        pytest.param("a.test", id="a host"),
        pytest.param("https:/a.test/", id="one slash"),
        pytest.param("https:a.test", id="no slash"),
        pytest.param("https:///a.test/", id="three slashes"),
        pytest.param("ftp://a.test/", id="ftp"),
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("gopher://a.test/", id="gopher"),
        pytest.param("javascript://a.test/", id="javascript"),
        pytest.param("wss://a.test/", id="wss"),
        pytest.param("http+unix://a.test/", id="a compound scheme"),
        pytest.param("\u02b0ttps://a.test/", id="a scheme that only looks like one"),
        pytest.param(" https://a.test/", id="a space before"),
        pytest.param("https://a.test/ ", id="a space behind"),
        pytest.param("https://a.test/a b", id="a space within"),
        pytest.param("https://a.test/\u00a0", id="a no-break space"),
        pytest.param("https://a.test/\u2028", id="a line separator"),
        pytest.param("https://a.test/\r\nX: 1", id="a line break in a path"),
        pytest.param("https://a.te\tst/", id="a tab in a host"),
        pytest.param("https://a.te\nst/", id="a line feed in a host"),
        pytest.param("https://a.test\x00.evil.test/", id="a NUL in a host"),
        pytest.param("https://a.test/\x7f", id="a DEL"),
        pytest.param("https://a.test/\x85", id="a C1 control"),
        pytest.param("https://a.test/\ud800", id="a lone surrogate"),
        pytest.param("https://a.test\\@evil.test/", id="a backslash that ends a host for some"),
        pytest.param("https:\\\\a.test/", id="backslashes for slashes"),
        pytest.param("https://a.test/a\\b", id="a backslash in a path"),
        pytest.param("https://a.test/?a\\b", id="a backslash in a query"),
        pytest.param("https://user@a.test/", id="a user name"),
        pytest.param("https://user:password@a.test/", id="a user name and password"),
        pytest.param("https://a.test:443@evil.test/", id="a host as a user name"),
        pytest.param("https://@a.test/", id="an empty user name"),
        pytest.param("https://", id="no host"),
        pytest.param("https://:443/", id="a port alone"),
        pytest.param("https:///", id="a path alone"),
        pytest.param("https://?q", id="a query alone"),
        pytest.param("https://a..test/", id="an empty label"),
        pytest.param("https://.a.test/", id="a leading dot"),
        pytest.param("https://a.test./", id="a trailing dot"),
        pytest.param("https://127.0.0.1./", id="a trailing dot behind an address"),
        pytest.param("https://-a.test/", id="a leading hyphen"),
        pytest.param(f"https://{'a' * 64}.test/", id="a label of 64"),
        pytest.param(f"https://{'a.' * 127}test/", id="a name of 258"),
        pytest.param("https://a.test%2eevil.test/", id="an escape in a host"),
        pytest.param("https://%61.test/", id="an escaped letter in a host"),
        pytest.param("https://a*.test/", id="a star in a host"),
        pytest.param("https://bücher.example/", id="a Unicode host"),
        pytest.param("https://\uff41.test/", id="a fullwidth letter"),
        pytest.param("https://a\u3002test/", id="an ideographic full stop"),
        pytest.param("https://a\uff0etest/", id="a fullwidth full stop"),
        pytest.param("https://a\uff61test/", id="a halfwidth full stop"),
        pytest.param("https://127\u30020\u30020\u30021/", id="an address with ideographic full stops"),
        pytest.param("https://\u2460\u2461\u2466.0.0.1/", id="an address in circled digits"),
        pytest.param("https://\u0661\u0662\u0667.0.0.1/", id="an address in Arabic digits"),
        pytest.param("https://\uff4cocalhost/", id="localhost with a fullwidth letter"),
        pytest.param("https://a\u00ad.test/", id="a soft hyphen"),
        pytest.param("https://a\u200b.test/", id="a zero-width space"),
        pytest.param("https://2130706433/", id="an address as one number"),
        pytest.param("https://0x7f000001/", id="an address as one hex number"),
        pytest.param("https://0x7f.0.0.1/", id="an address in hex"),
        pytest.param("https://127.0.0.0x1/", id="an address that ends in hex"),
        pytest.param("https://127.0.0.0X1/", id="an address that ends in upper-case hex"),
        pytest.param("https://a.0x/", id="an empty hex number"),
        pytest.param("https://017700000001/", id="an address as one octal number"),
        pytest.param("https://0177.0.0.1/", id="an address in octal"),
        pytest.param("https://127.0.0.01/", id="a leading zero"),
        pytest.param("https://127.1/", id="a short address"),
        pytest.param("https://127.0.1/", id="an address of three numbers"),
        pytest.param("https://0/", id="zero"),
        pytest.param("https://127.0.0.256/", id="a number over 255"),
        pytest.param("https://1.2.3.4.5/", id="five numbers"),
        pytest.param("https://a.test.123/", id="a name that ends in a number"),
        pytest.param("http://::1/", id="IPv6 without brackets"),
        pytest.param("http://[::1/", id="an open bracket"),
        pytest.param("http://::1]/", id="a closing bracket"),
        pytest.param("http://[::1]a/", id="more behind a bracket"),
        pytest.param("http://[::1].test/", id="a name behind a bracket"),
        pytest.param("http://[fe80::1%25eth0]/", id="a zone, escaped"),
        pytest.param("http://[fe80::1%eth0]/", id="a zone"),
        pytest.param("http://[v1.a]/", id="a future address"),
        pytest.param("http://[127.0.0.1]/", id="IPv4 in brackets"),
        pytest.param("http://[a.test]/", id="a name in brackets"),
        pytest.param("http://[]/", id="empty brackets"),
        pytest.param("https://a.test:/", id="an empty port"),
        pytest.param("https://a.test:0/", id="port 0"),
        pytest.param("https://a.test:65536/", id="port 65536"),
        pytest.param("https://a.test:4294967739/", id="a port that overflows to 443"),
        pytest.param("https://a.test:+443/", id="a port with a sign"),
        pytest.param("https://a.test:0443/", id="a port with a leading zero"),
        pytest.param("https://a.test:0x1bb/", id="a port in hex"),
        pytest.param("https://a.test:\uff14\uff14\uff13/", id="a port in fullwidth digits"),
        pytest.param("https://a.test:443:80/", id="two ports"),
        pytest.param("https://a.test/%", id="a lone percent sign"),
        pytest.param("https://a.test/%zz", id="an escape that is not hex"),
        pytest.param("https://a.test/?%u0041", id="an escape of another kind"),
        pytest.param("https://a.test/" + "a" * 8_192, id="over 8 KiB"),
        pytest.param("https://a.test/" + "€" * 2_000, id="over 8 KiB once escaped"),
    ],
)
def test_a_url_that_could_be_read_in_two_ways_is_refused(text):
    with pytest.raises(UrlError) as caught:
        Target.parse(text)
    assert 0 < len(caught.value.reason) < 200


@given(
    st.one_of(
        st.text(max_size=80), st.text(alphabet="htps:/@.[]%0x127a\\?#* \u3002", max_size=60).map("https://".__add__)
    )
)
@example("https://a.test/\udfff")
def test_any_text_is_a_target_or_a_url_error_and_a_target_is_safe_to_send(text):
    try:
        target = Target.parse(text)
    except UrlError:
        return
    assert target.path_query.startswith(b"/")
    assert all(0x21 <= byte <= 0x7E for byte in target.path_query)
    assert target.origin.isascii()
    assert Target.parse(target.origin + target.path_query.decode()) == target


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://api.test/", Domain("api.test")),
        ("https://1.2.3.4/", IPv4Address("1.2.3.4")),
        ("https://[2001:db8::1]/", IPv6Address("2001:db8::1")),
        ("https://[::ffff:7f00:1]/", IPv6Address("::ffff:127.0.0.1")),
    ],
)
def test_a_host_is_a_name_or_an_address(text, host):
    assert Target.parse(text).host == host
    assert Target.parse(text).port == 443
    assert Target.parse(text).scheme == "https"


def test_a_target_cannot_be_made_but_by_parsing():
    made = Target.parse("https://a.test/")
    with pytest.raises(TypeError):
        Target(Origin.parse("https://evil.test"), b"/", object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(made, path_query=b"/ HTTP/1.1\r\n")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.path_query = b"/other"
    assert copy.copy(made) == made


def test_a_target_does_not_show_its_query():
    target = Target.parse("https://a.test/path?key=sk-123#sk-456")
    assert target.shown == str(target) == "https://a.test/path"
    assert repr(target) == "<Target https://a.test/path>"


def test_what_is_shown_is_short():
    shown = Target.parse("https://a.test/" + "x" * 1_000).shown
    assert (len(shown), shown[-1]) == (200, "…")


def test_a_rebased_target_keeps_its_path_and_query():
    moved = Target.parse("https://api.openai.com/v1/a?b=c").rebased(Origin.parse("http://127.0.0.1:8080"))
    assert (moved.origin, moved.path_query) == ("http://127.0.0.1:8080", b"/v1/a?b=c")
    assert moved.host == IPv4Address("127.0.0.1")


@pytest.mark.parametrize("text", ["https://a.test", "http://a.test:8080", "http://[::1]:8080", "https://1.2.3.4"])
def test_an_origin_is_written_as_it_was_read(text):
    assert str(Origin.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "https://a.test/",
        "https://a.test/v1",
        "https://a.test?q",
        "https://a.test#f",
        "a.test",
        "ftp://a.test",
        "https://u@a.test",
        "https://*.a.test",
    ],
)
def test_an_origin_has_nothing_behind_it(text):
    with pytest.raises(UrlError):
        Origin.parse(text)
