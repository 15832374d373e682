"""Which secret may travel where."""

from __future__ import annotations

import pytest

from host.core.names import SecretName
from host.policy.document import SecretGrant
from host.policy.urls import DomainPattern, Origin, Target

MAPPED = {Origin.parse("http://mapped.test"), Origin.parse("https://mapped.test")}


@pytest.mark.parametrize(
    ("bound", "url", "expected"),
    [
        pytest.param(["a.test"], "https://a.test/x", True, id="its own domain"),
        pytest.param(["a.test"], "https://b.test/", False, id="another domain"),
        pytest.param(["a.test"], "https://a.test:8443/", False, id="its own domain at another port"),
        pytest.param(["a.test"], "https://a.test.evil.test/", False, id="a name that begins with its domain"),
        pytest.param(["a.test"], "https://sub.a.test/", False, id="below its domain"),
        pytest.param(["*.a.test"], "https://sub.a.test/", True, id="below its wildcard"),
        pytest.param(["*.a.test"], "https://a.test/", False, id="the apex of its wildcard"),
        pytest.param(["http://a.test"], "http://a.test/", False, id="never over plain http"),
        pytest.param(["a.test"], "http://a.test/", False, id="nor where https is meant"),
        pytest.param(["http://mapped.test"], "http://mapped.test/", True, id="over http to a mapped origin"),
        pytest.param(["a.test"], "http://mapped.test/", False, id="a mapped origin that it is not bound to"),
        pytest.param([], "https://a.test/", False, id="bound to nothing"),
        pytest.param(None, "https://a.test/", False, id="not bound yet"),
    ],
)
def test_where_a_secret_goes(bound: list[str] | None, url: str, expected: bool) -> None:
    domains = None if bound is None else tuple(map(DomainPattern.parse, bound))
    grant = SecretGrant(SecretName.parse("KEY"), domains)
    assert grant.goes_to(Target.parse(url), MAPPED) is expected


def test_a_secret_goes_into_headers_and_is_not_revealed_unless_the_grant_says_so() -> None:
    grant = SecretGrant(SecretName.parse("KEY"), ())
    assert (grant.places, grant.reveal) == ({"header"}, False)
