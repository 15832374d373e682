"""What one version asks for beside another: where a manifest sets no bound, anything is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from host.component.manifest import Manifest
from host.policy.diff import Difference, PermissionRequest

HTTP = "cyfr:http/fetch@0.1.0"
BOUND: dict[str, Any] = {"domains": ["a.example"], "secrets": ["KEY"]}
CONFIGURED: dict[str, Any] = {**BOUND, "domains": ["{config.base_url}"]}


def request(*imports: str, **fields: Any) -> PermissionRequest:
    config = {"base_url": "https://b.example/v1"}
    return PermissionRequest.of(imports, Manifest.parse(json.dumps(fields).encode()) if fields else None, config)


@pytest.mark.parametrize(
    ("before", "after", "more", "less"),
    [
        pytest.param(request(HTTP, **BOUND), request(HTTP, **BOUND), [], [], id="the same is neither"),
        pytest.param(request(), request(HTTP), [("import", HTTP)], [], id="an import is more"),
        pytest.param(
            request(**BOUND),
            request(**{**BOUND, "domains": ["b.example"]}),
            [("domain", "b.example")],
            [("domain", "a.example")],
            id="another domain is more, and the old one less",
        ),
        pytest.param(
            request(**BOUND), request(**CONFIGURED), [("domain", "b.example")], [("domain", "a.example")],
            id="a domain is what the configuration says",
        ),
        pytest.param(
            request(**BOUND), request(), [("domain", "(any)"), ("secret", "(any)")], [],
            id="no manifest is any domain and any secret, those of before among them",
        ),
        pytest.param(
            request(), request(**BOUND), [], [("domain", "(any)"), ("secret", "(any)")],
            id="after any of them, some are no more",
        ),
        pytest.param(
            request(secrets=["KEY"]), request(secrets=["KEY", "OTHER"]), [("secret", "OTHER")], [],
            id="any domain is not any secret",
        ),
        pytest.param(
            request(secrets=["KEY"]), request(secrets=[{"name": "KEY", "in": ["header", "header:X-Own"]}]),
            [("header", "x-own, for the secret KEY")], [],
            id="another header for a secret is more",
        ),
        pytest.param(
            request(**BOUND), request(**{**BOUND, "secrets": [{"name": "KEY", "domains": ["a.example"]}]}),
            [("destination", "a.example, for the secret KEY")], [],
            id="a destination for a secret is more, where it had none",
        ),
        pytest.param(
            request(**BOUND), request(**{**BOUND, "secrets": []}), [], [("secret", "KEY")],
            id="no secret any more",
        ),
        pytest.param(
            request(**{**BOUND, "secrets": [{"name": "KEY", "domains": ["a.example"]}]}), request(**BOUND),
            [("destination", "(any), for the secret KEY")], [("destination", "a.example, for the secret KEY")],
            id="a secret that may go anywhere again is more",
        ),
        pytest.param(
            PermissionRequest.nothing(), request(HTTP, **BOUND),
            [("domain", "a.example"), ("import", HTTP), ("secret", "KEY")], [],
            id="beside nothing everything is more",
        ),
    ],
)  # fmt: skip
def test_a_difference_is_what_is_asked_for_in_addition_and_what_no_longer(
    before: PermissionRequest, after: PermissionRequest, more: list[tuple[str, str]], less: list[tuple[str, str]]
) -> None:
    assert Difference.between(before, after) == Difference(tuple(more), tuple(less))
