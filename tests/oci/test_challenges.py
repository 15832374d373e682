"""What a 401 asks for."""

from __future__ import annotations

import pytest

from host.oci.auth import Challenge, parse_challenges

_BEARER = {"realm": "https://auth.test/token", "service": "registry.test", "scope": "repository:a/b:pull,push"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            ['Bearer realm="https://auth.test/token",service="registry.test",scope="repository:a/b:pull,push"'],
            [("bearer", _BEARER)],
            id="what Docker Hub sends",
        ),
        pytest.param(['Basic realm="Registry Realm"'], [("basic", {"realm": "Registry Realm"})], id="basic"),
        pytest.param(["Basic"], [("basic", {})], id="a scheme alone"),
        pytest.param(["BASIC Realm=x"], [("basic", {"realm": "x"})], id="whatever the case, quoted or not"),
        pytest.param(
            ['Basic realm="a", Bearer realm="https://b.test"'],
            [("basic", {"realm": "a"}), ("bearer", {"realm": "https://b.test"})],
            id="two in one value",
        ),
        pytest.param(
            ["Negotiate, Basic realm=x"],
            [("negotiate", {}), ("basic", {"realm": "x"})],
            id="one without parameters first",
        ),
        pytest.param(
            ["Basic realm=x", "Bearer realm=y"],
            [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
            id="two values",
        ),
        pytest.param(
            [r'Bearer realm="a\"b, c=\\d"'], [("bearer", {"realm": 'a"b, c=\\d'})], id="escapes and commas in quotes"
        ),
        pytest.param(["Bearer realm=a, realm=b"], [("bearer", {"realm": "a"})], id="the first of two realms"),
        pytest.param(['Bearer realm="never closed'], [("bearer", {})], id="a quote that is not closed"),
        pytest.param(["", "===", "\x00"], [], id="nothing of the kind"),
        pytest.param([], [], id="no field"),
    ],
)
def test_challenges_are_read(fields, expected):
    assert parse_challenges(fields) == tuple(Challenge(*one) for one in expected)


def test_a_field_without_end_is_not_read_to_its_end():
    found = parse_challenges(['Basic realm="' + '\\"' * 1_000_000])
    assert [one.scheme for one in found] == ["basic"]
    assert len(parse_challenges(["a," * 1_000_000])) < 5_000
