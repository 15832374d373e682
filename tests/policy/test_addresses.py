"""Which addresses are public, as a table, with second opinions."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.policy.addresses import allowed, classify

ANY = st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address))
IN_2000 = st.integers(0x2000 << 112, (0x4000 << 112) - 1).map(IPv6Address)


@pytest.mark.parametrize(
    ("address", "category"),
    [
        pytest.param("8.8.8.8", None, id="a public resolver"),
        pytest.param("104.18.33.45", None, id="a content network"),
        pytest.param("1.0.0.1", None, id="the first public block"),
        pytest.param("9.255.255.255", None, id="just before 10/8"),
        pytest.param("11.0.0.0", None, id="just behind 10/8"),
        pytest.param("100.63.255.255", None, id="just before carrier NAT"),
        pytest.param("100.128.0.0", None, id="just behind carrier NAT"),
        pytest.param("126.255.255.255", None, id="just before loopback"),
        pytest.param("128.0.0.0", None, id="just behind loopback"),
        pytest.param("172.15.255.255", None, id="just before 172.16/12"),
        pytest.param("172.32.0.0", None, id="just behind 172.16/12"),
        pytest.param("192.167.255.255", None, id="just before 192.168/16"),
        pytest.param("223.255.255.255", None, id="just before multicast"),
        pytest.param("0.0.0.0", "unspecified", id="the unspecified address, which connects to loopback"),
        pytest.param("0.1.2.3", "this network", id="this network"),
        pytest.param("10.0.0.1", "private", id="10/8"),
        pytest.param("172.16.0.1", "private", id="172.16/12"),
        pytest.param("172.31.255.255", "private", id="the end of 172.16/12"),
        pytest.param("192.168.1.1", "private", id="192.168/16"),
        pytest.param("100.64.0.1", "cgnat", id="carrier NAT"),
        pytest.param("127.0.0.1", "loopback", id="loopback"),
        pytest.param("127.255.255.254", "loopback", id="the end of loopback"),
        pytest.param("169.254.1.1", "link-local", id="link-local"),
        pytest.param("169.254.169.254", "cloud metadata", id="cloud metadata"),
        pytest.param("169.254.170.2", "cloud metadata", id="container credentials"),
        pytest.param("100.100.100.200", "cloud metadata", id="cloud metadata in carrier NAT"),
        pytest.param("168.63.129.16", "cloud metadata", id="a cloud's agent under a public number"),
        pytest.param("192.0.0.8", "reserved", id="protocol assignments"),
        pytest.param("192.0.2.1", "documentation", id="documentation 1"),
        pytest.param("198.51.100.1", "documentation", id="documentation 2"),
        pytest.param("203.0.113.1", "documentation", id="documentation 3"),
        pytest.param("192.88.99.1", "6to4", id="a 6to4 relay"),
        pytest.param("198.18.0.1", "benchmarking", id="benchmarking"),
        pytest.param("224.0.0.1", "multicast", id="multicast"),
        pytest.param("239.255.255.250", "multicast", id="device discovery"),
        pytest.param("240.0.0.1", "reserved", id="class E"),
        pytest.param("255.255.255.255", "broadcast", id="broadcast"),
        pytest.param("2606:4700::6812:212d", None, id="a public IPv6 address"),
        pytest.param("2a00:1450:4001:800::200e", None, id="another"),
        pytest.param("::", "unspecified", id="IPv6 unspecified"),
        pytest.param("::1", "loopback", id="IPv6 loopback"),
        pytest.param("::127.0.0.1", "compatible", id="IPv4-compatible"),
        pytest.param("::ffff:127.0.0.1", "mapped", id="mapped loopback"),
        pytest.param("::ffff:8.8.8.8", "mapped", id="a mapped public address"),
        pytest.param("::ffff:0:127.0.0.1", "translated", id="translated"),
        pytest.param("64:ff9b::7f00:1", "nat64", id="NAT64 of loopback"),
        pytest.param("64:ff9b::808:808", "nat64", id="NAT64 of a public address"),
        pytest.param("64:ff9b:1::1", "nat64", id="local NAT64"),
        pytest.param("2002:7f00:1::", "6to4", id="6to4 of loopback"),
        pytest.param("2001:0:4136:e378::1", "teredo", id="Teredo"),
        pytest.param("2606:4700::5efe:7f00:1", "isatap", id="ISATAP in a public prefix"),
        pytest.param("2606:4700::200:5efe:a00:1", "isatap", id="ISATAP with the universal bit"),
        pytest.param("fe80::5efe:a00:1", "isatap", id="ISATAP in link-local"),
        pytest.param("fd00::1", "private", id="unique local"),
        pytest.param("fc00::1", "private", id="unique local, lower half"),
        pytest.param("fd00:ec2::254", "cloud metadata", id="IPv6 cloud metadata"),
        pytest.param("fe80::1", "link-local", id="IPv6 link-local"),
        pytest.param("fe80::1%eth0", "link-local", id="link-local with an interface"),
        pytest.param("fec0::1", "site-local", id="site-local"),
        pytest.param("ff02::1", "multicast", id="IPv6 multicast"),
        pytest.param("100::1", "discard-only", id="discard"),
        pytest.param("2001:db8::1", "documentation", id="IPv6 documentation"),
        pytest.param("3fff::1", "documentation", id="newer IPv6 documentation"),
        pytest.param("2001:2::1", "benchmarking", id="IPv6 benchmarking"),
        pytest.param("2001:20::1", "reserved", id="ORCHID"),
        pytest.param("2001:200::1", None, id="just behind the protocol assignments"),
        pytest.param("5f00::1", "reserved", id="segment routing"),
        pytest.param("1fff:ffff::1", "reserved", id="just before global unicast"),
        pytest.param("4000::1", "reserved", id="just behind global unicast"),
    ],
)
def test_an_address_is_public_or_has_a_reason_not_to_be(address, category):
    assert classify(ip_address(address)) == category


@given(ANY)
def test_nothing_is_public_that_python_calls_anything_else(address):
    """`ipaddress` alone says yes to too much, but where it says no, so do we."""
    if classify(address) is None:
        assert address.is_global
        asked = ("multicast", "private", "loopback", "reserved", "link_local", "unspecified", "site_local")
        assert not any(getattr(address, f"is_{category}", False) for category in asked)


@given(IN_2000)
def test_no_ipv6_address_that_carries_an_ipv4_one_is_public(address):
    if classify(address) is None:
        assert (address.ipv4_mapped, address.sixtofour, address.teredo) == (None, None, None)


@given(ANY)
def test_without_an_exception_only_public_addresses_are_allowed(address):
    assert allowed(address) is (classify(address) is None)


@given(ANY, st.integers(0, 32), st.integers(0, 128))
def test_an_exception_allows_what_it_contains_and_nothing_else(address, four, six):
    networks = (ip_network(f"10.0.0.0/{four}", strict=False), ip_network(f"fd00::/{six}", strict=False))
    contained = any(address in network for network in networks)
    assert not allowed(address, networks) or classify(address) is None or contained


@pytest.mark.parametrize(
    ("address", "networks", "expected"),
    [
        pytest.param("127.0.0.1", ["127.0.0.0/8"], True, id="loopback where loopback is allowed"),
        pytest.param("10.0.0.1", ["127.0.0.0/8"], False, id="a private address where loopback is allowed"),
        pytest.param("::1", ["127.0.0.0/8"], False, id="IPv6 loopback where IPv4's is allowed"),
        pytest.param("::1", ["::1/128"], True, id="IPv6 loopback where it is allowed"),
        pytest.param("::ffff:127.0.0.1", ["127.0.0.0/8"], False, id="mapped loopback where loopback is allowed"),
        pytest.param("::ffff:127.0.0.1", ["::/0"], False, id="mapped loopback where all of IPv6 is allowed"),
        pytest.param("64:ff9b::7f00:1", ["64:ff9b::/96"], False, id="NAT64 even where it is named"),
        pytest.param("2002:7f00:1::", ["2002::/16"], False, id="6to4 even where it is named"),
        pytest.param("2001:0:4136:e378::1", ["2001::/32"], False, id="Teredo even where it is named"),
        pytest.param("fd00::5efe:7f00:1", ["fd00::/8"], False, id="ISATAP in an allowed network"),
        pytest.param("::127.0.0.1", ["::/0"], False, id="an IPv4-compatible address"),
        pytest.param("fe80::1%eth0", ["fe80::/10"], False, id="an address that names an interface"),
        pytest.param("fd12::1", ["fd12::/64"], True, id="unique local where it is allowed"),
        pytest.param("192.88.99.1", ["192.88.99.0/24"], True, id="an IPv4 relay carries nothing inside"),
        pytest.param("8.8.8.8", ["10.0.0.0/8"], True, id="a public address needs no exception"),
    ],
)
def test_what_an_operator_allows(address, networks, expected):
    assert allowed(ip_address(address), tuple(map(ip_network, networks))) is expected
